"""Reading two sorted streams into windows: what is present, missing, different, extra. No queue, no Redis.

Owns the step between the merge and the coordinator: classification of each pair and the counts by group. Runs
in a thread of its own, because ten million steps must not stop an event loop.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.scan.merge import Pair, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scheduler.scan.inventory.entry import Collation, Entry
    from scheduler.scan.state import ScanOptions
    from workers.store.model import ListedObject

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
    duplicates: int = 0
    missing: list[tuple[str, Entry]] = field(default_factory=list)
    #: Present but different: (group, entry, what is in the store, reason).
    differs: list[tuple[str, Entry, ListedObject, str]] = field(default_factory=list)


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


class Selection:
    """Which entries of the inventory a scan is about; patterns are compiled once."""

    def __init__(self, options: ScanOptions) -> None:
        self._options = options
        self._include = [re.compile(pattern) for pattern in options.include]
        self._exclude = [re.compile(pattern) for pattern in options.exclude]
        limits = (options.min_size, options.max_size, options.changed_after, options.changed_before)
        self._all = not (self._include or self._exclude) and all(limit is None for limit in limits)

    def wants(self, entry: Entry) -> bool:
        """Whether the entry passes every filter; what the source does not say passes."""
        if self._all:
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
            (options.changed_after is not None and entry.mtime < options.changed_after)
            or (options.changed_before is not None and entry.mtime > options.changed_before)
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
    """The merge of one run, window by window."""

    def __init__(
        self,
        inventory: Iterable[Entry],
        listing: Iterable[ListedObject],
        *,
        options: ScanOptions,
        collation: Collation,
        groups: Groups,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._duplicates = 0
        self._pairs: Iterator[Pair[Entry, ListedObject]] = merge(
            inventory,
            listing,
            left_key=lambda entry: entry.key,
            right_key=lambda listed: listed.key,
            collation=collation,
            on_duplicate=self._duplicate,
        )
        self._options = options
        self._selection = Selection(options)
        self._groups = groups
        self._clock = clock

    def _duplicate(self, side: str, key: str) -> None:
        del key
        if side == "inventory":
            self._duplicates += 1

    def next_window(self) -> Window:
        """Read on until the window is full, 2 s have passed, or both streams have ended.

        Raises:
            OutOfOrder: a stream is not sorted.
            Whatever the streams raise: a listing that fails is never taken for its end (P31).
        """
        window = Window()
        counts = window.counts
        wants, compare, group_of = self._selection.wants, self._options.compare, self._groups.of
        until = self._clock() + WINDOW_S
        number = 0
        for number, (entry, there) in enumerate(self._pairs, 1):
            if entry is None:
                assert there is not None
                window.last_key = there.key
                window.extra += 1
            else:
                window.last_key = entry.key
                group = group_of(entry.key)
                counts[group, "found"] += 1
                if not wants(entry):
                    counts[group, "excluded"] += 1
                elif there is None:
                    window.missing.append((group, entry))
                else:
                    reason = difference(entry, there, compare)
                    if reason is None:
                        counts[group, "present"] += 1
                    else:
                        window.differs.append((group, entry, there, reason))
            if (
                number >= WINDOW_PAIRS
                or len(window.missing) >= WINDOW_MISSING
                or (number % 512 == 0 and self._clock() >= until)
            ):
                break
        else:
            window.ended = True
        window.duplicates, self._duplicates = self._duplicates, 0
        return window
