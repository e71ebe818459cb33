"""Keys as sites have them, for whoever cuts a key space: each is hard for a naive split in its own way.

keys = FAMILIES["skewed"](100_000)      distinct keys, in no order; the same ones each time
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CJK: Final = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
_LATIN: Final = "aàbcčdeéèfghiïjklmnñoöpqrsštuüvwxyzžß"


def flat_random(count: int, seed: int = 1) -> list[str]:
    """No prefix, random names of letters, digits and signs of every case."""
    draw = random.Random(seed)
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return _distinct(count, lambda: "".join(draw.choices(signs, k=12)))


def one_prefix(count: int, seed: int = 1) -> list[str]:
    """All below one long prefix, but for a handful of strays at both ends of the key space."""
    draw = random.Random(seed)
    strays = ["!first", "index.html", "robots.txt", "~last"][: max(0, count - 1)]
    prefix = "static/assets/production/uploads/images/"
    return [*strays, *_distinct(count - len(strays), lambda: f"{prefix}{draw.randrange(16**10):010x}.jpg")]


def sequential(count: int, seed: int = 1) -> list[str]:
    """Numbers that are not padded, so that their order is not that of numbers."""
    del seed
    return [f"photo{number}.jpg" for number in range(1, count + 1)]


def padded(count: int, seed: int = 1) -> list[str]:
    """Padded numbers that fill the last corner of their space."""
    del seed
    return [f"doc-{10**11 - count + number:012d}" for number in range(count)]


def dates(count: int, seed: int = 1) -> list[str]:
    """Twenty years of days, each year with a half more than the one before."""
    draw = random.Random(seed)
    weights = [1.5**year for year in range(20)]
    first = dt.date(2006, 1, 1)

    def one() -> str:
        year = draw.choices(range(20), weights)[0]
        day = first.replace(year=2006 + year) + dt.timedelta(days=draw.randrange(365))
        return f"{day:%Y/%m/%d}/{draw.randrange(10**9):09d}.bin"

    return _distinct(count, one)


def folders(count: int, seed: int = 1) -> list[str]:
    """Numbered files, so many to a numbered folder: each level ends long before its signs do."""
    del seed
    return [f"img/{number // 10_000:05d}/photo-{number:09d}.jpg" for number in range(count)]


def uuids(count: int, seed: int = 1) -> list[str]:
    """Random UUIDs below one prefix."""
    draw = random.Random(seed)
    return _distinct(count, lambda: f"objects/{uuid.UUID(int=draw.getrandbits(128), version=4)}")


def non_ascii(count: int, seed: int = 1) -> list[str]:
    """Chinese folders, names with accents, a few signs beyond the basic plane."""
    draw = random.Random(seed)

    def one() -> str:
        folder = "".join(draw.choices(_CJK, k=2))
        name = "".join(draw.choices(_LATIN, k=8))
        return f"{folder}/{name}{'😀' if draw.random() < 0.05 else ''}.png"

    return _distinct(count, one)


def skewed(count: int, seed: int = 1) -> list[str]:
    """A thousand prefixes; the largest holds half of all, the next a quarter, and so on; deep ones, too."""
    draw = random.Random(seed)

    def one() -> str:
        number = min(999, int(draw.expovariate(0.7)))
        deep = "a/" * (number % 7)
        return f"user-{number * 7919 % 1000:03d}/{deep}{draw.randrange(10**10)}"

    return _distinct(count, one)


FAMILIES: Final[dict[str, Callable[[int], list[str]]]] = {
    "flat_random": flat_random,
    "one_prefix": one_prefix,
    "sequential": sequential,
    "padded": padded,
    "dates": dates,
    "folders": folders,
    "uuids": uuids,
    "non_ascii": non_ascii,
    "skewed": skewed,
}


def _distinct(count: int, one: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[one()] = None
    return list(found)


def shares(keys: Sequence[str], cuts: Sequence[str]) -> list[int]:
    """How many of the keys lie in each of the ranges that the cuts make; the oracle of a balance."""
    bounds = ["", *cuts, None]
    in_order = sorted(keys)
    counts: list[int] = []
    at = 0
    for bound in bounds[1:]:
        begin = at
        while at < len(in_order) and (bound is None or in_order[at] < bound):
            at += 1
        counts.append(at - begin)
    return counts
