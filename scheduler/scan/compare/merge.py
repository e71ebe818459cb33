"""Joining an inventory with a listing: one pass over two sorted streams of blocks, in constant memory. PURE.

Owns the comparison of places, not of contents. Streams come in blocks, because what a list does for a
thousand keys at once costs a tenth of what a loop does for each. Order is checked while reading, because a
stream out of order would make present objects look missing and missing ones look present; a stream that
repeats a key is told apart from one that is out of order.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")
L = TypeVar("L")
R = TypeVar("R")

#: Longest part of a side that is joined at a time.
STRETCH = 1_000


class OutOfOrder(FerrymanError):
    """A stream is not sorted as it should be; the two keys are named (P32)."""

    def __init__(self, side: str, before: str, after: str) -> None:
        super().__init__(f"{side}: {after!r} came after {before!r}: the order is not what was expected")
        self.side = side
        self.before = before
        self.after = after


class Block(NamedTuple, Generic[T]):
    """Neighbours in a stream: the places of their keys under the collation, and what stands there."""

    places: list[str]
    items: Sequence[T]


class Stretch(NamedTuple, Generic[L, R]):
    """What both sides have between two places; either side may have nothing there."""

    left: Block[L]
    right: Block[R]


class Pair(NamedTuple, Generic[L, R]):
    """One key: on the left only (missing at the right), on the right only, or on both sides."""

    left: L | None
    right: R | None


def join(
    left: Iterable[Block[L]],
    right: Iterable[Block[R]],
    *,
    on_duplicate: Callable[[str, str], None],
    most: int = STRETCH,
) -> Iterator[Stretch[L, R]]:
    """Cut two sorted streams into stretches over the same places, at most `most` long on either side.

    `on_duplicate(side, place)` is told of a key that a side repeats; the repetition is passed over.

    Raises:
        OutOfOrder: a side is not sorted; everything yielded so far is right.
    """
    lefts = _Side(_checked(left, "inventory", on_duplicate))
    rights = _Side(_checked(right, "listing", on_duplicate))
    while True:
        here, there = lefts.fill(), rights.fill()
        if here and there:
            bound = min(lefts.place(most), rights.place(most))
        elif here:
            bound = lefts.place(most)
        elif there:
            bound = rights.place(most)
        else:
            return
        yield Stretch(lefts.take(bound), rights.take(bound))


def pairs(stretch: Stretch[L, R]) -> Iterator[Pair[L, R]]:
    """The keys of a stretch one by one, in order."""
    (mine, entries), (theirs, objects) = stretch
    if mine == theirs:
        yield from (Pair(entry, there) for entry, there in zip(entries, objects, strict=True))
        return
    at = 0
    for place, entry in zip(mine, entries, strict=True):
        while at < len(theirs) and theirs[at] < place:
            yield Pair(None, objects[at])
            at += 1
        if at < len(theirs) and theirs[at] == place:
            yield Pair(entry, objects[at])
            at += 1
        else:
            yield Pair(entry, None)
    for there in objects[at:]:
        yield Pair(None, there)


def merge(
    left: Iterable[Block[L]], right: Iterable[Block[R]], *, on_duplicate: Callable[[str, str], None]
) -> Iterator[Pair[L, R]]:
    """`join`, key by key.

    Raises:
        OutOfOrder: a side is not sorted.
    """
    for stretch in join(left, right, on_duplicate=on_duplicate):
        yield from pairs(stretch)


class _Side(Generic[T]):
    """A stream, and how far it is taken."""

    def __init__(self, blocks: Iterator[Block[T]]) -> None:
        self._blocks = blocks
        self._block: Block[T] = Block([], ())
        self._at = 0

    def fill(self) -> bool:
        """Have something to take; False at the end of the stream."""
        while self._at >= len(self._block.places):
            found = next(self._blocks, None)
            if found is None:
                return False
            self._block, self._at = found, 0
        return True

    def place(self, most: int) -> str:
        """The last place of the next `most` ones."""
        places = self._block.places
        return places[min(self._at + most, len(places)) - 1]

    def take(self, bound: str) -> Block[T]:
        """Everything up to a place, of the block at hand."""
        places, items = self._block
        begin, end = self._at, bisect_right(places, bound, self._at)
        self._at = end
        if end - begin == len(places):
            return self._block
        return Block(places[begin:end], items[begin:end])


def _checked(
    stream: Iterable[Block[T]], side: str, on_duplicate: Callable[[str, str], None]
) -> Iterator[Block[T]]:
    last = ""  # no key is empty
    for block in stream:
        places, items = block
        if not places:
            continue
        if places[0] > last and all(map(lt, places, islice(places, 1, None))):
            last = places[-1]
            yield block
            continue
        kept: list[int] = []
        for at, place in enumerate(places):
            if place > last:
                kept.append(at)
                last = place
            elif place == last:
                on_duplicate(side, place)
            else:
                raise OutOfOrder(side, last.replace("\x01", "/"), place.replace("\x01", "/"))
        yield Block([places[at] for at in kept], [items[at] for at in kept])
