"""A sparse index of a sorted inventory: where its keys stand in it, and how many stand before them. PURE.

Owns the marks: a line's place, the byte it begins at, and the number of lines before it. There are never more
than a few thousand, whatever is indexed: with too many, every second one is dropped and the next come further
apart. So a part of any inventory is found, counted and cut at a glance, to within a few thousandths of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from scheduler.scan.inventory.entry import Collation, order_of

#: Most marks, and bytes between two of them to begin with.
MOST_MARKS = 8_192
FIRST_APART_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where things are in a sorted inventory."""

    collation: Collation
    #: What was sorted, as its owner names it.
    of: str
    #: Entries, and the bytes that their lines end at.
    keys: int
    end_at: int
    #: The marks: places of lines, the bytes they begin at, lines before them. The first is the first line's.
    places: list[str]
    at: list[int]
    before: list[int]

    def span(self, begin: str | None, end: str | None) -> tuple[int, int]:
        """Bytes [from, to) in which every line with `begin` <= key < `end` stands; None: without a bound."""
        order = order_of(self.collation)
        if not self.places:
            return self.end_at, self.end_at
        first = 0 if begin is None else max(0, bisect_right(self.places, order(begin)) - 1)
        last = len(self.places) if end is None else bisect_left(self.places, order(end))
        return self.at[first], (self.at[last] if last < len(self.places) else self.end_at)

    def count(self, begin: str | None, end: str | None) -> int:
        """About how many keys `begin` <= key < `end` there are: exact where both stand at a mark."""
        return max(0, self._before(end, self.keys) - self._before(begin, 0))

    def cuts(self, parts: int, begin: str | None = None, end: str | None = None) -> list[str]:
        """Keys that cut `begin` <= key < `end` into so many parts of about as many keys, in order.

        Fewer where there are not so many marks. Each is a key of the inventory, behind `begin`.
        """
        order = order_of(self.collation)
        low, high = self._before(begin, 0), self._before(end, self.keys)
        floor = "" if begin is None else order(begin)
        found: list[str] = []
        for part in range(1, parts):
            wanted = low + (high - low) * part / parts
            at = bisect_left(self.before, wanted)
            # The nearer one of both neighbours.
            if at and (at == len(self.before) or wanted - self.before[at - 1] <= self.before[at] - wanted):
                at -= 1
            if at == len(self.places) or not 0 < self.before[at] < high:
                continue
            place = self.places[at]
            if place > floor and (end is None or place < order(end)):
                floor = place
                found.append(key_at(place, self.collation))
        return found

    def _before(self, key: str | None, otherwise: int) -> int:
        if key is None:
            return otherwise
        place = order_of(self.collation)(key)
        at = bisect_left(self.places, place)
        if at == len(self.places):
            low = self.before[-1] if self.before else 0
            return (low + self.keys) // 2
        if self.places[at] == place or at == 0:
            return self.before[at]
        return (self.before[at - 1] + self.before[at]) // 2


def key_at(place: str, collation: Collation) -> str:
    """The key that has this place."""
    return place.replace("\x01", "/") if collation is Collation.PATH else place


class IndexBuilder:
    """Takes the lines of a sorted file as they are written, or read."""

    def __init__(self, *, begin_at: int) -> None:
        """`begin_at`: the byte that the first line begins at."""
        self._apart = FIRST_APART_BYTES
        self._due = begin_at
        self._at = begin_at
        self._lines = 0
        self._marks: list[tuple[str, int, int]] = []

    @property
    def lines(self) -> int:
        """Lines so far."""
        return self._lines

    def add(self, lines: bytes) -> None:
        """Take some more whole lines."""
        here = 0
        while self._due < self._at + len(lines):
            # The first line that begins where a mark is due, or behind it.
            wanted = self._due - self._at
            begin = lines.find(b"\n", wanted - 1) + 1 if wanted > 0 else 0
            if begin == len(lines) or (begin == 0 and wanted > 0):
                break
            self._lines += lines.count(b"\n", here, begin)
            here = begin
            place = lines[begin : lines.find(b"\t", begin)].decode()
            self._marks.append((place, self._at + begin, self._lines))
            self._due = self._at + begin + self._apart
            if len(self._marks) > MOST_MARKS:
                del self._marks[1::2]
                self._apart *= 2
                self._due = self._marks[-1][1] + self._apart
        self._lines += lines.count(b"\n", here)
        self._at += len(lines)

    def index(self, collation: Collation, of: str) -> Index:
        """What came so far."""
        places, at, before = zip(*self._marks, strict=True) if self._marks else ((), (), ())
        return Index(
            collation=collation, of=of, keys=self._lines, end_at=self._at,
            places=list(places), at=list(at), before=list(before),
        )  # fmt: skip


def encoded(index: Index) -> bytes:
    """As it is kept."""
    return orjson.dumps(asdict(index))


def decoded(said: bytes) -> Index:
    """What `encoded` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        record: dict[str, Any] = orjson.loads(said)
        index = Index(**{**record, "collation": Collation(record["collation"])})
        whole = len(index.places) == len(index.at) == len(index.before) and index.keys + index.end_at >= 0
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error
    if not whole:
        msg = "columns of different lengths"
        raise ValueError(msg)
    return index
