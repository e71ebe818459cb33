"""Ranges of keys: half-open, `[begin, end)`, in the order of a listing. PURE.

Owns how a key space is cut into ranges, how one of them is split, and the proof that some of them are
together exactly the key space. Knows no store, no scan and no Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Collation, order_of
from scheduler.scan.record.shard import WHOLE, KeyRange

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Beyond every sign that keys are made of: the last of the area of private use.
_LAST = "\U0010fffd"


class NotInside(ValueError):
    """A range cannot be split at a key that is not strictly inside of it."""

    def __init__(self, range_: KeyRange, at: str) -> None:
        super().__init__(f"{range_} cannot be split at {at!r}: that is not strictly inside")


def within(range_: KeyRange, key: str, collation: Collation) -> bool:
    """Whether a key is in a range."""
    order = order_of(collation)
    place = order(key)
    return place >= order(range_.begin) and (range_.end is None or place < order(range_.end))


def cut(points: Iterable[str], collation: Collation, *, whole: KeyRange = WHOLE) -> tuple[KeyRange, ...]:
    """A range cut at those of these keys that are strictly inside, in any order; twice is once."""
    order = order_of(collation)
    first, last = order(whole.begin), None if whole.end is None else order(whole.end)
    by_place = {order(point): point for point in points}
    inside = [
        by_place[place] for place in sorted(by_place) if place > first and (last is None or place < last)
    ]
    begins, ends = [whole.begin, *inside], [*inside, whole.end]
    return tuple(KeyRange(begin=begin, end=end) for begin, end in zip(begins, ends, strict=True))


def split(range_: KeyRange, at: str, collation: Collation) -> tuple[KeyRange, KeyRange]:
    """Two ranges that are together exactly this one.

    Raises:
        NotInside: `at` is not strictly inside.
    """
    parts = cut([at], collation, whole=range_)
    if len(parts) != 2:
        raise NotInside(range_, at)
    return parts[0], parts[1]


def flaw(ranges: Iterable[KeyRange], collation: Collation, *, whole: KeyRange = WHOLE) -> str:
    """Where these ranges leave a gap or overlap, in a sentence; empty: they join to exactly the whole."""
    order = order_of(collation)
    at: str | None = whole.begin
    for one in sorted(ranges, key=lambda one: order(one.begin)):
        if at is None:
            return f"{one} lies behind the end"
        here, begin = order(at), order(one.begin)
        if here != begin:
            what = "a gap" if here < begin else "an overlap"
            return f"{what} between {at!r} and {one.begin!r}"
        if one.end is not None and order(one.end) <= begin:
            return f"{one} holds no key"
        at = one.end
    if at != whole.end:
        return f"nothing covers what follows {at!r}"
    return ""


def before(begin: str) -> str | None:
    """A place to list behind, so that `begin` itself is listed; None: from the very beginning.

    Next to no key lies between the two; where one does, it is before `begin`, and whoever reads passes over
    it.
    """
    if not begin:
        return None
    code = ord(begin[-1]) - 1
    if code < 1:
        return begin[:-1] or None
    if 0xD800 <= code <= 0xDFFF:
        code = 0xD7FF
    return begin[:-1] + chr(code) + _LAST
