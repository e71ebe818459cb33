"""Reading two sorted streams into windows: what is present, missing, different, extra. No queue, no Redis.

Owns the step between the join and the coordinator: classification of each key and the counts by group. Runs
in a thread of its own, because ten million steps must not stop an event loop.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.scan.compare.merge import STRETCH, join
from scheduler.scan.inventory.entry import Collation, Columns, order_of
from workers.store.model import ListedColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scheduler.scan.compare.merge import Block, Stretch
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.state import ScanOptions
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
        found: Sequence[ListedObject | None]
        if mine == theirs:
            found = objects
        else:
            found = list(map(dict(zip(theirs, objects, strict=True)).get, mine))
            window.extra += len(theirs) - len(mine) + found.count(None)
        keys = entries.keys if isinstance(entries, Columns) else [entry.key for entry in entries]
        groups = self._groups.of_sorted(keys)
        same = self._same_sizes(entries, found)
        counts = window.counts
        if isinstance(groups, str):
            counts[groups, "found"] += len(mine)
            counts[groups, "present"] += len(mine)
        else:
            for name, number in Counter(groups).items():
                counts[name, "found"] += number
                counts[name, "present"] += number
        if same is not None and all(same):
            return
        wants = self._selection.wants
        for at, there in enumerate(found):
            if same is not None and same[at]:
                continue
            entry = entries[at]
            group = groups if isinstance(groups, str) else groups[at]
            if not wants(entry):
                counts[group, "excluded"] += 1
                window.excluded.append(entry.key)
            elif there is None:
                window.missing.append((group, entry))
            else:
                reason = difference(entry, there, self._compare)
                if reason is None:
                    continue
                window.differs.append((group, entry, there, reason))
            counts[group, "present"] -= 1

    def _same_sizes(
        self, entries: Sequence[Entry], found: Sequence[ListedObject | None]
    ) -> list[bool] | None:
        """For each, whether it is there and nothing more is to be said; None when a closer look is needed."""
        if not self._selection.everything or not set(self._compare) <= {"size"}:
            return None
        sizes = entries.sizes() if isinstance(entries, Columns) and self._compare else None
        if isinstance(found, ListedColumns) and (sizes == found.sizes or not self._compare):
            return []  # all there, and nothing to be said of any
        if sizes is None and not isinstance(entries, Columns) and self._compare:
            return None
        if sizes is None:
            return [there is not None for there in found]
        return [
            there is not None and (size is None or size == there.size)
            for size, there in zip(sizes, found, strict=True)
        ]
