"""Reading two sorted streams into windows: what is present, missing, different, extra. No queue, no Redis.

Owns the step between the join and the coordinator: classification of each key and the counts by group. Runs
in a thread of its own, because ten million steps must not stop an event loop.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

from scheduler.scan.compare.merge import STRETCH, join
from scheduler.scan.inventory.entry import Collation, Columns, order_of
from workers.store.model import ListedColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scheduler.scan.compare.merge import Block, Stretch
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanOptions
    from workers.store.model import ListedObject

DAY_S = 86_400.0
#: Groups that are told apart; later ones count together.
MAX_GROUPS = 500
OTHER_GROUP = "(other)"
ROOT_GROUP = "(root)"
#: A window ends at whichever comes first.
WINDOW_MISSING = 2_000
WINDOW_PAIRS = 50_000
WINDOW_S = 2.0


@dataclass(slots=True)
class Window:
    """What a stretch of the two streams showed."""

    #: Last key of the stretch, on either side; empty when there was nothing.
    last_key: str = ""
    #: The streams are at their end.
    ended: bool = False
    #: (group, what) -> number; what: found, present, differs, excluded.
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    extra: int = 0
    missing: list[tuple[str, Entry]] = field(default_factory=list)
    #: Present but different: (group, entry, what is in the store, reason).
    differs: list[tuple[str, Entry, ListedObject, str]] = field(default_factory=list)
    #: Keys that the filters leave out.
    excluded: list[str] = field(default_factory=list)
    #: Keys that somebody watches for and that are in the store.
    watched: list[str] = field(default_factory=list)


class Groups:
    """Names the group of a key: its first path component, in a bounded number of groups."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)

    def of(self, key: str) -> str:
        """`img/` for `img/a/b.png`, `(root)` for a key without a slash."""
        head, slash, _ = key.partition("/")
        name = head + "/" if slash else ROOT_GROUP
        if name in self._known:
            return name
        if len(self._known) >= MAX_GROUPS:
            return OTHER_GROUP
        self._known.add(name)
        return name

    def of_sorted(self, keys: list[str]) -> str | list[str]:
        """The group of all these neighbours in a listing's order, or that of each when they differ."""
        head, slash, _ = keys[0].partition("/")
        # Under either collation what begins alike stands together: equal ends, equal middle.
        if slash and keys[-1].startswith(head + slash):
            return self.of(keys[0])
        return list(map(self.of, keys))


class Selection:
    """Which entries of the inventory a scan is about; patterns are compiled once."""

    def __init__(self, options: ScanOptions, *, now: float) -> None:
        """`now` is the Unix time that ages count back from: that of the run's request."""
        self._options = options
        after = [options.changed_after] if options.changed_after is not None else []
        after += [now - options.max_age_days * DAY_S] if options.max_age_days is not None else []
        before = [options.changed_before] if options.changed_before is not None else []
        before += [now - options.min_age_days * DAY_S] if options.min_age_days is not None else []
        self._after = max(after, default=None)
        self._before = min(before, default=None)
        self._include = [re.compile(pattern) for pattern in options.include]
        self._exclude = [re.compile(pattern) for pattern in options.exclude]
        limits = (options.min_size, options.max_size, self._after, self._before)
        #: Nothing is left out.
        self.everything = not (self._include or self._exclude) and all(limit is None for limit in limits)

    def wants(self, entry: Entry) -> bool:
        """Whether the entry passes every filter; what the source does not say passes."""
        if self.everything:
            return True
        options = self._options
        if self._include and not any(pattern.search(entry.key) for pattern in self._include):
            return False
        if any(pattern.search(entry.key) for pattern in self._exclude):
            return False
        if entry.size is not None and (
            (options.min_size is not None and entry.size < options.min_size)
            or (options.max_size is not None and entry.size > options.max_size)
        ):
            return False
        return entry.mtime is None or not (
            (self._after is not None and entry.mtime < self._after)
            or (self._before is not None and entry.mtime > self._before)
        )


def difference(entry: Entry, there: ListedObject, compare: tuple[str, ...]) -> str | None:
    """How the stored object differs from what the inventory says: `size`, `digest`, `mtime`, or None.

    A digest is compared where both sides have an MD5 (an ETag of the store that is one); `mtime` means that
    the origin's object is younger than the stored one.
    """
    if "size" in compare and entry.size is not None and entry.size != there.size:
        return "size"
    if "digest" in compare and entry.digest is not None and entry.digest.startswith("md5:"):
        etag = there.etag.strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{32}", etag) and etag != entry.digest[4:]:
            return "digest"
    if "mtime" in compare and entry.mtime is not None and entry.mtime > there.last_modified:
        return "mtime"
    return None


class Comparison:
    """The join of one run, window by window."""

    def __init__(
        self,
        inventory: Iterable[Block[Entry]],
        listing: Iterable[Block[ListedObject]],
        *,
        options: ScanOptions,
        selection: Selection,
        groups: Groups,
        watched: Iterable[str] = (),
        collation: Collation = Collation.BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Both in the order of `collation`. `watched` keys are named when the listing has them."""
        order = order_of(collation)
        # No listed key is told apart by a control character, so a key with one watches for nothing.
        self._watched = {order(key): key for key in watched if "\x01" not in key}
        self._stretches: Iterator[Stretch[Entry, ListedObject]] = join(
            inventory,
            listing,
            on_duplicate=lambda *_: None,  # the inventory has each key once, and a listing may repeat itself
            most=min(STRETCH, WINDOW_MISSING),
        )
        self._compare = options.compare
        self._selection = selection
        self._groups = groups
        self._clock = clock

    def next_window(self) -> Window:
        """Read on until the window is full, 2 s have passed, or both streams have ended.

        Raises:
            OutOfOrder: a stream is not sorted.
            Whatever the streams raise: a listing that fails is never taken for its end (P31).
        """
        window = Window()
        until = self._clock() + WINDOW_S
        number = 0
        for stretch in self._stretches:
            self._take(stretch, window)
            number += max(len(stretch.left.places), len(stretch.right.places))
            if (
                number >= WINDOW_PAIRS
                or len(window.missing) + len(window.differs) >= WINDOW_MISSING
                or self._clock() >= until
            ):
                break
        else:
            window.ended = True
        return window

    def _take(self, stretch: Stretch[Entry, ListedObject], window: Window) -> None:
        (mine, entries), (theirs, objects) = stretch
        if self._watched:
            window.watched += [self._watched[place] for place in theirs if place in self._watched]
        if not mine:
            window.last_key = objects[-1].key
            window.extra += len(theirs)
            return
        window.last_key = objects[-1].key if theirs and theirs[-1] > mine[-1] else entries[-1].key
        places: list[int | None] | None = None  # side by side
        if mine != theirs:
            places = list(map(dict(zip(theirs, count(), strict=False)).get, mine))
            window.extra += len(theirs) - len(mine) + places.count(None)
        keys = entries.keys if isinstance(entries, Columns) else [entry.key for entry in entries]
        groups = self._groups.of_sorted(keys)
        counts = window.counts
        if isinstance(groups, str):
            counts[groups, "found"] += len(mine)
            counts[groups, "present"] += len(mine)
        else:
            for name, number in Counter(groups).items():
                counts[name, "found"] += number
                counts[name, "present"] += number
        wants = self._selection.wants
        for at in self._unsure(entries, objects, places):
            entry = entries[at]
            group = groups if isinstance(groups, str) else groups[at]
            place = at if places is None else places[at]
            if not wants(entry):
                counts[group, "excluded"] += 1
                window.excluded.append(entry.key)
            elif place is None:
                window.missing.append((group, entry))
            else:
                there = objects[place]
                reason = difference(entry, there, self._compare)
                if reason is None:
                    continue
                window.differs.append((group, entry, there, reason))
            counts[group, "present"] -= 1

    def _unsure(
        self, entries: Sequence[Entry], objects: Sequence[ListedObject], places: list[int | None] | None
    ) -> Sequence[int]:
        """Which entries want a closer look: all but those that are there and of which nothing is to be said.

        Texts are compared, a column at a time; `places` says where each entry stands among the objects, None:
        side by side.
        """
        if not self._selection.everything or "mtime" in self._compare:
            return range(len(entries))
        columns: list[tuple[list[str], list[str]]] = []
        if "size" in self._compare and (sizes := _texts(entries, "sizes")):
            columns.append((sizes, _listed(objects, "sizes")))
        if "digest" in self._compare and (digests := _texts(entries, "digests")):
            columns.append((digests, [f"md5:{etag}" for etag in _listed(objects, "etags")]))
        if places is None:
            if all(mine == theirs for mine, theirs in columns):
                return ()
            sure = [True] * len(entries)
        else:
            sure = [place is not None for place in places]
            columns = [
                (mine, ["" if place is None else theirs[place] for place in places])
                for mine, theirs in columns
            ]
        for mine, theirs in columns:
            sure = [
                so_far and (not one or one == other)
                for so_far, one, other in zip(sure, mine, theirs, strict=True)
            ]
        return [at for at, one in enumerate(sure) if not one]


def _texts(entries: Sequence[Entry], name: Literal["sizes", "digests"]) -> list[str] | None:
    """A column of entries as text; None when it is unknown of all."""
    if isinstance(entries, Columns):
        return entries.sizes if name == "sizes" else entries.digests
    if name == "sizes":
        return ["" if entry.size is None else str(entry.size) for entry in entries]
    return [entry.digest or "" for entry in entries]


def _listed(objects: Sequence[ListedObject], name: Literal["sizes", "etags"]) -> list[str]:
    """A column of objects as text."""
    if isinstance(objects, ListedColumns):
        return objects.sizes if name == "sizes" else objects.etags
    return [str(there.size) if name == "sizes" else there.etag for there in objects]
