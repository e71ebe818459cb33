"""Where to cut keys that nobody has counted, from a few pages of their listing. PURE but for the probe.

Owns the search. A page of a thousand keys tells how dense the keys stand where it was taken; between what
was seen it is asked again, always where most is thought to be, until no part is thought to hold more than a
small share. Keys are measured in the signs that they are made of there, so that hexadecimal names, numbers
and dates, prefixes of any length and any script come out alike. What a count would find is only guessed:
ranges are exact whatever comes of it, and what turns out larger is split while it runs.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: Pages that are asked for at once.
_AT_ONCE: Final = 16
#: Pages in all: so many, and so many for each shard.
_PAGES: Final = 200
_PAGES_A_SHARD: Final = 10
#: Parts that a shard is guessed in.
_FINENESS: Final = 4
_LEAST_PARTS: Final = 32
#: Fewer keys than a page has are not told apart further.
_PAGE_KEYS: Final = 1_100
#: Signs behind what two keys have in common that are told apart.
_SIGNS: Final = 10
#: Beyond every sign of a key.
_LAST: Final = "\U0010fffd"
#: Signs are ranked one by one up to here; beyond, those so near to each other are of one script.
_ASCII: Final = "\x7f"
_ONE_SCRIPT: Final = 4_096
#: Keys that both halves of a split have at least.
_LEAST: Final = 2_000


class Probed(NamedTuple):
    """A page of keys, in the order of bytes."""

    keys: Sequence[str]
    #: Nothing follows.
    ended: bool


class Cuts(NamedTuple):
    """Keys to cut at, in order, and how many keys there are likely in all."""

    points: list[str]
    keys: int


@dataclass(slots=True)
class _Cell:
    """What lies behind one cell and before `high`; `keys` are the first of it."""

    keys: Sequence[str]
    high: str | None
    #: All keys are known.
    exact: bool
    #: The next place to ask at follows from what the keys have in common, not from arithmetic.
    by_shape: bool = True

    @property
    def guess(self) -> float:
        """How many keys it holds, likely."""
        seen = len(self.keys)
        if self.exact or seen < 2 or (self.high or "").startswith(self.keys[-1]):
            return float(seen)
        # As dense as at its end the keys go on, as far as anybody knows.
        scale = self.scale()
        here = max(seen // 2, bisect_left(self.keys, scale.common))
        # What begins in the middle of these keys begins there: nothing of it stands before.
        there = scale.of(self.keys[here]) if here == seen // 2 else 0
        last, high = scale.of(self.keys[-1]), scale.of(self.high)
        return seen + (seen - here) * max(0, high - last) / max(1, last - there)

    def scale(self) -> _Scale:
        """How keys are measured here."""
        return _Scale(self.keys, self.high)

    def next_place(self) -> str | None:
        """Where to ask next, behind the keys and before the end; None: there is no such place."""
        last = self.keys[-1]
        if self.by_shape:
            shapes = {last[: at + 1] for at, sign in enumerate(last) if sign == "/"}
            shapes.add(_common(self.keys[0], last))
            for shape in sorted(shapes, key=len):
                place = shape + _LAST
                if shape and last < place and (self.high is None or place < self.high):
                    return place
        scale = self.scale()
        return scale.between(last, self.high, scale.of(last) + (scale.of(self.high) - scale.of(last)) // 2)


class _Scale:
    """Keys as numbers: the signs behind what they have in common, by their rank among those that occur.

    Of signs beyond ASCII a page shows only some: what stands between two of them may occur, too.
    """

    def __init__(self, keys: Sequence[str], high: str | None) -> None:
        self.common = _common(keys[-1], high or "")
        cut = len(self.common)
        some = islice(keys, 0, None, max(1, len(keys) // 64))
        signs = {sign for key in some for sign in key[cut : cut + 40]}
        signs |= set((high or "")[cut : cut + 40]) | set(keys[-1][cut : cut + 40])
        self.signs = sorted(signs)
        self.ranks = [1]
        for one, other in pairwise(self.signs):
            apart = ord(other) - ord(one)
            self.ranks.append(self.ranks[-1] + (apart if one > _ASCII and apart <= _ONE_SCRIPT else 1))
        self.base = self.ranks[-1] + 2

    def of(self, key: str | None) -> int:
        """Its number; that of None is beyond all."""
        if key is None or not key.startswith(self.common):
            return self.base**_SIGNS if key is None or key > self.common else 0
        number, cut = 0, len(self.common)
        for at in range(_SIGNS):
            number = number * self.base + (self._rank(key[cut + at]) if cut + at < len(key) else 0)
        return number

    def between(self, low: str, high: str | None, number: int) -> str | None:
        """A short key about at a number, strictly between two; None: there is none to be had."""
        digits: list[int] = []
        for _ in range(_SIGNS):
            number, digit = divmod(number, self.base)
            digits.append(digit)
        digits.reverse()
        key, found = self.common, None
        for digit in digits:
            if digit == 0:
                break
            key += self._sign(digit)
            inside = low < key and (high is None or key < high)
            if found is not None:
                # One sign more than it takes, for the sake of the middle.
                return key if inside else found
            found = key if inside else None
        return found

    def _rank(self, sign: str) -> int:
        at = bisect_right(self.signs, sign) - 1
        if at < 0:
            return 0
        room = self.ranks[at + 1] - self.ranks[at] if at + 1 < len(self.signs) else 2
        return self.ranks[at] + min(ord(sign) - ord(self.signs[at]), room - 1)

    def _sign(self, rank: int) -> str:
        if rank > self.ranks[-1]:
            return _LAST
        at = bisect_right(self.ranks, rank) - 1
        code = ord(self.signs[at]) + rank - self.ranks[at]
        return self.signs[at] if 0xD800 <= code <= 0xDFFF else chr(code)


async def cuts(
    probe: Callable[[str | None], Awaitable[Probed]],
    shards: int,
    *,
    after: str | None = None,
    end: str | None = None,
) -> Cuts:
    """Keys that cut what lies behind `after` and before `end` into so many parts of about as many keys.

    `probe(after)` gives the page of keys behind one. Fewer points come of fewer keys.

    Raises:
        Whatever the probe raises.
    """
    cells = [_cell(await probe(after), end)]
    left = _PAGES + _PAGES_A_SHARD * shards
    while left > 0:
        guesses = [cell.guess for cell in cells]
        enough = max(sum(guesses) / max(shards * _FINENESS, _LEAST_PARTS), _PAGE_KEYS)
        heavy = [at for at, cell in enumerate(cells) if guesses[at] > enough and not cell.exact]
        heavy = sorted(heavy, key=lambda at: -guesses[at])[: min(_AT_ONCE, left)]
        asked: list[tuple[int, str]] = []
        for at in heavy:
            place = cells[at].next_place()
            if place is None:
                cells[at].exact = True  # as far as anybody can tell
            else:
                asked.append((at, place))
        if not heavy:
            break
        left -= len(asked)
        pages = await asyncio.gather(*(probe(place) for _, place in asked))
        for (at, place), page in sorted(zip(asked, pages, strict=True), key=lambda one: -one[0][0]):
            cells[at : at + 1] = _divided(cells[at], place, page)
    return _chosen(cells, shards)


async def halved(
    probe: Callable[[str | None], Awaitable[Probed]], after: str, end: str | None
) -> tuple[str | None, int]:
    """A key that halves what lies between two, and how many keys come behind it, likely; None: too few."""
    found = await cuts(probe, 2, after=after, end=end)
    if found.keys < 2 * _LEAST or not found.points:
        return None, 0
    return found.points[0], found.keys // 2


def _cell(page: Probed, high: str | None) -> _Cell:
    keys = list(page.keys)
    inside = keys if high is None else keys[: bisect_left(keys, high)]
    return _Cell(keys=inside, high=high, exact=page.ended or len(inside) < len(keys) or not keys)


def _divided(cell: _Cell, place: str, page: Probed) -> list[_Cell]:
    """A cell after somebody looked behind a place in it."""
    right = _cell(page, cell.high)
    if not right.keys:
        # Nothing is there: what the keys have in common may tell more than arithmetic, in its turn.
        return [_Cell(keys=cell.keys, high=place, exact=False, by_shape=not cell.by_shape)]
    right.by_shape = False
    return [_Cell(keys=cell.keys, high=place, exact=False, by_shape=False), right]


def _chosen(cells: Sequence[_Cell], shards: int) -> Cuts:
    guesses = [cell.guess for cell in cells]
    total = sum(guesses)
    points: list[str] = []
    for part in range(1, shards):
        left = total * part / shards
        for cell, guess in zip(cells, guesses, strict=True):
            if left < guess:
                point = _at(cell, left, guess)
                if point is not None and (not points or point > points[-1]):
                    points.append(point)
                break
            left -= guess
    return Cuts(points, round(total))


def _at(cell: _Cell, offset: float, guess: float) -> str | None:
    """The key that stands so far into a cell."""
    if offset < len(cell.keys):
        return cell.keys[int(offset)] if offset >= 1 else cell.keys[0]
    scale = cell.scale()
    first, high = scale.of(cell.keys[0]), scale.of(cell.high)
    number = first + int((high - first) * offset / guess)
    found = scale.between(cell.keys[-1], cell.high, number)
    return found if found is not None else cell.keys[-1]


def _common(one: str, other: str) -> str:
    """What both begin with."""
    length = min(len(one), len(other))
    return one[: next((at for at in range(length) if one[at] != other[at]), length)]


def seen_in(keys: Sequence[str], after: str | None, *, page: int = 1_000) -> Probed:
    """The page of keys that a listing of these, in order, gives."""
    at = 0 if after is None else bisect_right(keys, after)
    return Probed(keys[at : at + page], ended=at + page >= len(keys))
