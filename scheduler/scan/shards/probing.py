"""Where to cut keys that nobody has counted, from a few pages of their listing. PURE but for the probe.

Owns the search. A page of a thousand keys tells how dense the keys stand where it was taken; between what
was seen it is asked again, always where most is thought to be, until no part is thought to hold more than a
small share. Keys are measured in the signs that they are made of there, so that hexadecimal names, numbers
and dates, prefixes of any length and any script come out alike. What a count would find is only guessed:
ranges are exact whatever comes of it, and what turns out larger is split while it runs.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: Pages that are asked for at once.
_AT_ONCE: Final = 48
#: Pages in all: so many, and so many for each shard.
_PAGES: Final = 200
_PAGES_A_SHARD: Final = 10
#: Pages that a split is worth (it costs those who wait for it), those while it is still guesswork, and parts
#: that it is guessed in.
_PAGES_A_SPLIT: Final = 24
_PAGES_IN_DOUBT: Final = 72
_PARTS_OF_SPLIT: Final = 10
#: Parts that a shard is guessed in.
_FINENESS: Final = 2
_LEAST_PARTS: Final = 32
#: Fewer keys than a page has are not told apart further.
_PAGE_KEYS: Final = 1_100
#: Times of what was seen that the room behind it may have to be thought filled as densely, and places of one
#: part that are asked for at once.
_UNSURE: Final = 8
_FILLED: Final = 2
_PLACES: Final = 12
_FEW: Final = 4
#: Signs behind what two keys have in common that are told apart.
_SIGNS: Final = 24
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
    #: Keys stand close to its end, too.
    filled: bool = False

    #: What `weighed` has reckoned.
    _weighed: tuple[float, bool] | None = None

    def weighed(self) -> tuple[float, bool]:
        """Its `guess`, and whether it is `unknown`."""
        if self._weighed is None:
            self._weighed = self.guess, self.unknown
        return self._weighed

    @property
    def guess(self) -> float:
        """How many keys it holds, likely."""
        seen = len(self.keys)
        if self.exact or seen < 2 or (self.high or "").startswith(self.keys[-1]):
            return float(seen)
        # As dense as at its end the keys go on, as far as anybody knows.
        some, span, room = self.density(self.scale())
        times = room / span
        return seen + some * (_FILLED * math.log2(times) if self._guesswork(times) else times)

    @property
    def unknown(self) -> bool:
        """Nobody knows how far the keys go on: it is found out first of all."""
        if self.exact or len(self.keys) < 2 or (self.high or "").startswith(self.keys[-1]):
            return False
        _, span, room = self.density(self.scale())
        return self._guesswork(room / span)

    def _guesswork(self, times: float) -> bool:
        """Whether density says nothing: of room many times as wide as what was seen, no key at its end.

        Nor does it when what was seen is in one folder, and other folders follow.
        """
        if times <= _UNSURE:
            return False
        return not self.filled or bool(self._folder())

    def _folder(self) -> str:
        """The folder that the last keys are in and the end is not; empty: there is none."""
        seen = _common(self.keys[len(self.keys) // 2], self.keys[-1])
        cut = len(_common(seen, self.high or ""))
        slash = seen.find("/", cut)
        return "" if slash < 0 or not seen else seen[: slash + 1]

    def density(self, scale: _Scale) -> tuple[int, int, int]:
        """So many keys stand on so much at the end of those that were seen, and so much comes behind."""
        seen = len(self.keys)
        here = max(seen // 2, bisect_left(self.keys, scale.common))
        # What begins in the middle of these keys begins there: nothing of it stands before.
        there = scale.of(self.keys[here]) if here == seen // 2 else 0
        last, high = scale.of(self.keys[-1]), scale.of(self.high)
        return seen - here, max(1, last - there), max(0, high - last)

    def scale(self) -> _Scale:
        """How keys are measured here."""
        return _Scale(self.keys, self.high)

    def next_places(self, most: int) -> list[str]:
        """Where to ask next, behind the keys and before the end, in order; none: there is no such place."""
        last = self.keys[-1]
        found: list[str] = []
        if folder := self._folder():
            # Behind the folder is another level: what is in it says nothing of how many there are.
            place = folder + _LAST
            if last < place and (self.high is None or place < self.high):
                found.append(place)
        elif self.by_shape:
            shapes = {last[: at + 1] for at, sign in enumerate(last) if sign == "/"}
            shapes.add(_common(self.keys[0], last))
            for shape in sorted(shapes, key=len):
                place = shape + _LAST
                if shape and last < place and (self.high is None or place < self.high):
                    found.append(place)
                    break
        scale = self.scale()
        _, span, room = self.density(scale)
        begin, times = scale.of(last), room / span
        # Where the room is many times as wide as what was seen, its order of magnitude is what is unknown.
        ladder = not self.filled and not folder and self._guesswork(times)
        steps = max(1, most - len(found))
        for step in range(1, steps + 1):
            part = step / (steps + 1)
            number = begin + (int(span * times**part) if ladder else int(room * part))
            if (between := scale.between(last, self.high, number)) is not None:
                found.append(between)
        return sorted(dict.fromkeys(found[:most]))


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
    pages: int | None = None,
    enough_pages: int | None = None,
    least_parts: int = _LEAST_PARTS,
) -> Cuts:
    """Keys that cut what lies behind `after` and before `end` into so many parts of about as many keys.

    `probe(after)` gives the page of keys behind one. Fewer points come of fewer keys. `pages`: how many are
    asked for at most, `enough_pages`: as long as it is guesswork, else only so many; `least_parts`: that the
    keys are guessed in.

    Raises:
        Whatever the probe raises.
    """
    cells = [_cell(await probe(after), end)]
    left = most = _PAGES + _PAGES_A_SHARD * shards if pages is None else pages
    while left > 0:
        weights = [cell.weighed() for cell in cells]
        guesses, unknown = [guess for guess, _ in weights], [unknown for _, unknown in weights]
        if enough_pages is not None and most - left >= enough_pages and not _doubtful(weights):
            break
        enough = max(sum(guesses) / max(shards * _FINENESS, least_parts), _PAGE_KEYS)
        heavy = [
            at for at, cell in enumerate(cells) if (guesses[at] > enough or unknown[at]) and not cell.exact
        ]
        heavy = sorted(heavy, key=lambda at: (not unknown[at], -guesses[at]))[: min(_AT_ONCE, left)]
        if not heavy:
            break
        asked: list[tuple[int, str]] = []
        for at in heavy:
            # Who is alone may ask for more at once: what counts is how often answers are waited for.
            worth = _PLACES if unknown[at] and len(heavy) <= _FEW else 1 + int(guesses[at] / enough)
            places = cells[at].next_places(min(max(1, _AT_ONCE // len(heavy)), _PLACES, worth))
            if not places:
                # As far as anybody can tell.
                cells[at] = _Cell(keys=cells[at].keys, high=cells[at].high, exact=True)
            asked += [(at, place) for place in places]
        asked = asked[:left]
        left -= len(asked)
        answers = await asyncio.gather(*(probe(place) for _, place in asked))
        # From the end on, so that places of cells that were not looked at yet stay what they are.
        for (at, place), page in sorted(
            zip(asked, answers, strict=True), key=lambda one: one[0], reverse=True
        ):
            cells[at : at + 1] = _divided(cells[at], place, page)
    return _chosen(cells, shards)


async def halved(
    probe: Callable[[str | None], Awaitable[Probed]], after: str, end: str | None
) -> tuple[str | None, int]:
    """A key that halves what lies between two, and how many keys come behind it, likely; None: too few."""
    found = await cuts(
        probe,
        2,
        after=after,
        end=end,
        pages=_PAGES_IN_DOUBT,
        enough_pages=_PAGES_A_SPLIT,
        least_parts=_PARTS_OF_SPLIT,
    )
    if found.keys < 2 * _LEAST or not found.points:
        return None, 0
    return found.points[0], found.keys // 2


def _doubtful(weights: Sequence[tuple[float, bool]]) -> bool:
    """Whether where the middle lies is guesswork: much of it unknown, or most of it in one part."""
    total = sum(guess for guess, _ in weights)
    blind = sum(guess for guess, unknown in weights if unknown)
    return blind > total / 4 or max(guess for guess, _ in weights) > total / 2


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
    right.filled = cell.filled
    left = _Cell(keys=cell.keys, high=place, exact=False, by_shape=False)
    if len(cell.keys) > 1:
        scale = left.scale()
        far = scale.of(place)
        left.filled = scale.of(right.keys[0]) - far <= (far - scale.of(cell.keys[-1])) // 4
    return [left, right]


def _chosen(cells: Sequence[_Cell], shards: int) -> Cuts:
    guesses = [cell.weighed()[0] for cell in cells]
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
    if cell.unknown:
        some, span, room = cell.density(scale)
        number = scale.of(cell.keys[-1]) + min(room - 1, int(span * (offset - len(cell.keys)) / some))
    else:
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
