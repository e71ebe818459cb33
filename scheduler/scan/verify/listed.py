"""One range of a verification by listing: each key of the inventory beside the bucket's. PURE.

Owns what is kept of it: counts, missing keys, and a sample of those that are there. The sample is drawn by
lots, one for each key, and the lowest stay: however the keys are cut into ranges, each has the same chance.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from scheduler.scan.compare.compare import difference
from scheduler.scan.compare.merge import merge
from scheduler.scan.verify.report import MAX_EXTRA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.verify.report import Finding
    from workers.store.model import ListedObject


class Lot(NamedTuple):
    """A key that is there, and the lot that it drew; heaps have the highest first."""

    #: Minus the lot.
    rank: float
    key: str
    entry: Entry


@dataclass(slots=True)
class Part:
    """What one range showed, or several together."""

    checked: int = 0
    waived: int = 0
    #: Objects that the inventory lacks, and the first of them.
    extra: int = 0
    extra_keys: list[str] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    #: What is to be compared byte by byte.
    kept: list[Lot] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a verification looks at a range."""

    wants: Callable[[Entry], bool]
    #: Keys whose absence is waived.
    excused: frozenset[str]
    #: How many are kept for the look at bytes; None: every one.
    sample: int | None
    found: Callable[[str, Finding, str], None]
    #: Told of some thousand more keys.
    progress: Callable[[int], None]


_TICK_KEYS = 10_000


def listed(
    inventory: Iterator[Block[Entry]], listing: Iterator[Block[ListedObject]], rules: Rules, draw: Random
) -> Part:
    """Compare a range. Blocking.

    Raises:
        OutOfOrder: a stream is not sorted.
        Whatever the streams raise: a listing that fails is never taken for its end (P31).
    """
    part = Part()
    for entry, there in merge(inventory, listing, on_duplicate=lambda *_: None):
        if entry is None:
            part.extra += 1
            if there is not None and len(part.extra_keys) < MAX_EXTRA:
                part.extra_keys.append(there.key)
            continue
        if not rules.wants(entry):
            continue
        part.checked += 1
        if part.checked % _TICK_KEYS == 0:
            rules.progress(_TICK_KEYS)
        if there is None:
            if entry.key in rules.excused:
                part.waived += 1
            else:
                part.missing.append(entry)
            continue
        reason = difference(entry, there, ("size", "digest"))
        if entry.mtime is not None and entry.mtime > there.last_modified:
            rules.found(entry.key, "drift", f"the origin's is younger{f', {reason}' if reason else ''}")
        elif reason is not None:
            rules.found(entry.key, "size" if reason == "size" else "digest", _differs(entry, there, reason))
        if rules.sample is None:
            part.kept.append(Lot(0.0, entry.key, entry))
        elif rules.sample:
            rank = -draw.random()
            if len(part.kept) < rules.sample:
                heapq.heappush(part.kept, Lot(rank, entry.key, entry))
            elif rank > part.kept[0].rank:
                heapq.heapreplace(part.kept, Lot(rank, entry.key, entry))
    return part


def together(parts: Sequence[Part], sample: int | None) -> Part:
    """What ranges that follow one another show as one."""
    kept = [lot for part in parts for lot in part.kept]
    return Part(
        checked=sum(part.checked for part in parts),
        waived=sum(part.waived for part in parts),
        extra=sum(part.extra for part in parts),
        extra_keys=[key for part in parts for key in part.extra_keys][:MAX_EXTRA],
        missing=[entry for part in parts for entry in part.missing],
        kept=kept if sample is None else heapq.nlargest(sample, kept),
    )


def _differs(entry: Entry, there: ListedObject, reason: str) -> str:
    if reason == "size":
        return f"{entry.size} bytes in the inventory, {there.size} in the store"
    return f"{entry.digest} in the inventory, ETag {there.etag} in the store"
