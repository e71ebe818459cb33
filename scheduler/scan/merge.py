"""Pairing an inventory with a listing: one pass over two sorted streams. PURE.

Owns the comparison of places, not of contents. Order is checked while reading, because a stream out of order
would make present objects look missing and missing ones look present; a stream that repeats a key is told
apart from one that is out of order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from scheduler.scan.inventory.entry import Collation, order_of
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

L = TypeVar("L")
R = TypeVar("R")


class OutOfOrder(FerrymanError):
    """A stream is not sorted as it should be; the two keys are named (P32)."""

    def __init__(self, side: str, before: str, after: str) -> None:
        super().__init__(f"{side}: {after!r} came after {before!r}: the order is not what was expected")
        self.side = side
        self.before = before
        self.after = after


class Pair(NamedTuple, Generic[L, R]):
    """One key: on the left only (missing at the right), on the right only, or on both sides."""

    left: L | None
    right: R | None


def merge(
    left: Iterable[L],
    right: Iterable[R],
    *,
    left_key: Callable[[L], str],
    right_key: Callable[[R], str],
    collation: Collation,
    on_duplicate: Callable[[str, str], None],
) -> Iterator[Pair[L, R]]:
    """Join two streams that are sorted under `collation`, in constant memory.

    `on_duplicate(side, key)` is told of a key that a side repeats; the repetition is passed over.

    Raises:
        OutOfOrder: a side is not sorted; everything yielded so far is right.
    """
    order = order_of(collation)
    lefts = _ordered(left, "inventory", left_key, order, on_duplicate)
    rights = _ordered(right, "listing", right_key, order, on_duplicate)
    here = next(lefts, None)
    there = next(rights, None)
    while here is not None and there is not None:
        if here[0] == there[0]:
            yield Pair(here[1], there[1])
            here = next(lefts, None)
            there = next(rights, None)
        elif here[0] < there[0]:
            yield Pair(here[1], None)
            here = next(lefts, None)
        else:
            yield Pair(None, there[1])
            there = next(rights, None)
    while here is not None:
        yield Pair(here[1], None)
        here = next(lefts, None)
    while there is not None:
        yield Pair(None, there[1])
        there = next(rights, None)


def _ordered(
    stream: Iterable[L],
    side: str,
    key_of: Callable[[L], str],
    order: Callable[[str], str],
    on_duplicate: Callable[[str, str], None],
) -> Iterator[tuple[str, L]]:
    last = ""
    first = True
    before = ""
    for item in stream:
        key = key_of(item)
        place = order(key)
        if place <= last and not first:
            if place == last:
                on_duplicate(side, key)
                continue
            raise OutOfOrder(side, before, key)
        first = False
        last, before = place, key
        yield place, item
