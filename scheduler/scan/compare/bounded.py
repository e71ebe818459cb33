"""The part of a sorted stream that lies in a range of keys. PURE.

Owns the trimming of blocks. A block that lies inside as a whole, as nearly all do, costs two comparisons.
What is trimmed is filtered, not cut: a stream that is out of order shows it to whoever joins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from scheduler.scan.compare.merge import Block
from scheduler.scan.inventory.entry import order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scheduler.scan.inventory.entry import Collation
    from scheduler.scan.record.shard import KeyRange

T = TypeVar("T")


def bounded(blocks: Iterable[Block[T]], range_: KeyRange, collation: Collation) -> Iterator[Block[T]]:
    """What is in the range; the stream is read no further than the first block that ends behind it."""
    order = order_of(collation)
    begin, end = order(range_.begin), None if range_.end is None else order(range_.end)
    for block in blocks:
        places = block.places
        if not places:
            continue
        beyond = end is not None and places[-1] >= end
        if not beyond and places[0] >= begin:
            yield block
            continue
        kept = [at for at, place in enumerate(places) if place >= begin and (end is None or place < end)]
        if kept:
            yield Block([places[at] for at in kept], [block.items[at] for at in kept])
        if beyond:
            return
