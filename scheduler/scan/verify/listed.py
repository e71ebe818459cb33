"""A verification by listing: each key of the inventory beside the bucket's, some thousand at a time. PURE.

Owns what is kept of them: counts, findings, missing keys, and a sample of those that are there. Each key
draws a lot that follows from the seed and the key alone, and the lowest stay: however the keys are cut into
ranges, and whoever begins again, each has the same chance, and the same ones are drawn.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from scheduler.scan.compare.compare import difference
from scheduler.scan.compare.merge import STRETCH, join, pairs
from scheduler.scan.record.shard import MAX_EXTRA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scheduler.scan.compare.merge import Block, Pair
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.verify.report import Finding
    from workers.store.model import ListedObject

#: A part ends at whichever comes first.
PART_KEYS = 20_000
PART_S = 2.0


class Lot(NamedTuple):
    """A key that is there, and the lot that it drew; heaps have the highest first."""

    #: Minus the lot, which is from 0 to 1.
    rank: float
    key: str


class Lots:
    """The keys with the lowest lots, at most so many."""

    def __init__(self, seed: int, most: int) -> None:
        self._draw = blake2b(digest_size=8, key=str(seed).encode()[:64])
        self._most = most
        self._heap: list[Lot] = []

    def draw(self, key: str) -> None:
        """Let a key draw; it stays if its lot is one of the lowest."""
        drawn = self._draw.copy()
        drawn.update(key.encode())
        # 53 bits: what a float, and a score in Redis, has room for.
        self.add(Lot(-(int.from_bytes(drawn.digest()) >> 11) / (1 << 53), key))

    def add(self, lot: Lot) -> None:
        """One that was drawn."""
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, lot)
        elif lot.rank > self._heap[0].rank:
            heapq.heapreplace(self._heap, lot)

    @property
    def kept(self) -> list[Lot]:
        """Those that stay, in no order."""
        return self._heap


@dataclass(slots=True)
class Part:
    """What some keys showed."""

    #: Last of them, on either side; empty: there were none. Both sides are at their end.
    last_key: str = ""
    ended: bool = False
    checked: int = 0
    waived: int = 0
    #: Objects that the inventory lacks, and the first of them.
    extra: int = 0
    extra_keys: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    #: (key, finding, detail)
    findings: list[tuple[str, Finding, str]] = field(default_factory=list)
    #: Keys that are there, when all of them are wanted.
    there: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a verification looks at keys."""

    wants: Callable[[Entry], bool]
    #: Keys whose absence is waived.
    excused: frozenset[str]
    #: Draws for a sample; None: there is none.
    lots: Lots | None = None
    #: Every key that is there is wanted by name.
    all_there: bool = False
    #: Keys after which a part ends, and missing ones (None: however many).
    part_keys: int = PART_KEYS
    part_missing: int | None = None


class Looking:
    """The join of two sorted streams, part by part."""

    def __init__(
        self,
        inventory: Iterator[Block[Entry]],
        listing: Iterator[Block[ListedObject]],
        rules: Rules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._stretches = join(
            inventory,
            listing,
            on_duplicate=lambda *_: None,
            most=min(STRETCH, rules.part_keys, rules.part_missing or STRETCH),
        )

    def next_part(self) -> Part:
        """Look on until the part is full, 2 s have passed, or both streams have ended. Blocking.

        Raises:
            OutOfOrder: a stream is not sorted.
            Whatever the streams raise: a listing that fails is never taken for its end (P31).
        """
        part, number = Part(), 0
        until = self._clock() + PART_S
        for stretch in self._stretches:
            (mine, entries), (theirs, objects) = stretch
            if mine and not (theirs and theirs[-1] > mine[-1]):
                part.last_key = entries[-1].key
            else:
                part.last_key = objects[-1].key
            self._take(pairs(stretch), part)
            number += max(len(mine), len(theirs))
            if number >= self._rules.part_keys or self._clock() >= until:
                return part
            if self._rules.part_missing is not None and len(part.missing) >= self._rules.part_missing:
                return part
        part.ended = True
        return part

    def _take(self, found: Iterable[Pair[Entry, ListedObject]], part: Part) -> None:
        rules = self._rules
        wants, lots = rules.wants, rules.lots
        for entry, there in found:
            if entry is None:
                part.extra += 1
                if there is not None and len(part.extra_keys) < MAX_EXTRA:
                    part.extra_keys.append(there.key)
                continue
            if not wants(entry):
                continue
            part.checked += 1
            key = entry.key
            if there is None:
                if key in rules.excused:
                    part.waived += 1
                else:
                    part.missing.append(key)
                continue
            reason = difference(entry, there, ("size", "digest"))
            if entry.mtime is not None and entry.mtime > there.last_modified:
                detail = f"the origin's is younger{f', {reason}' if reason else ''}"
                part.findings.append((key, "drift", detail))
            elif reason is not None:
                finding: Finding = "size" if reason == "size" else "digest"
                part.findings.append((key, finding, _differs(entry, there, reason)))
            if rules.all_there:
                part.there.append(key)
            elif lots is not None:
                lots.draw(key)


def _differs(entry: Entry, there: ListedObject, reason: str) -> str:
    if reason == "size":
        return f"{entry.size} bytes in the inventory, {there.size} in the store"
    return f"{entry.digest} in the inventory, ETag {there.etag} in the store"
