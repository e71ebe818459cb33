"""A history for the demo's page: eight days of a made-up site, reckoned, written as a fleet writes its own.

Owns the model. Objects are asked for as often as their rank says (the n-th most wanted one about 1/n times as
often), more by day than by night; the first who asks for one is a miss, all who come later are hits. Hits,
misses and objects stored of each minute follow from that; nothing is drawn by hand. The page says that it is
made up (`notice`); what this machine really did comes after it.
"""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workers.ledger.history import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.ledger.history import History

#: The made-up site: objects, their mean size, requests an hour by day, days that are told.
OBJECTS: Final = 150_000
MEAN_BYTES: Final = 180_000
REQUESTS_PER_H: Final = 9_000
DAYS: Final = 8
#: Minutes before now that are told one by one; before them, hours.
MINUTES: Final = 24 * 60
_GROUPS: Final = 160


def notice(began: float) -> str:
    """What the page says of it; `began` in unix seconds."""
    until = datetime.fromtimestamp(began, UTC)
    return (
        f"Demo. The curves before {until:%H:%M} UTC are a made-up site's: {OBJECTS:,} objects, {DAYS} days, "
        "reckoned, not measured. Everything else is this machine's."
    ).replace(",", "\u202f", 1)


def samples(began: float, *, seed: int = 7) -> Iterator[Sample]:
    """The history up to the minute before `began` (unix seconds): hours, then the minutes of the last day."""
    minute = int(began) // 60
    end = minute * 60
    first_minute = end - MINUTES * 60
    first_hour = (first_minute - (DAYS - 1) * 86_400) // 3600 * 3600
    groups = _ranks()
    asked = [0.0] * len(groups)
    chance = random.Random(seed)
    stored = 0.0
    times = [(at, 3600) for at in range(first_hour, first_minute // 3600 * 3600, 3600)]
    # The rest of the hour in which the minutes begin, so that no hour is counted twice.
    times += [(at, 60) for at in range(first_minute // 3600 * 3600, end, 60)]
    for at, seconds in times:
        requests = REQUESTS_PER_H * seconds / 3600 * _by_day(at) * chance.uniform(0.85, 1.15)
        misses = 0.0
        for number, (share, objects) in enumerate(groups):
            before = asked[number]
            asked[number] = after = before + requests * share
            misses += objects * (math.exp(-before) - math.exp(-after))
        stored += misses
        origin = _whole(misses, chance)
        yield Sample(
            at=at,
            hits=max(0, round(requests) - origin),
            origin=origin,
            stored=round(stored),
            stored_bytes=round(stored * MEAN_BYTES),
        )


async def write(history: History, began: float) -> int:
    """Write it as a fleet writes its minutes; how many samples."""
    written = 0
    for sample in samples(began):
        await history.write(sample)
        written += 1
    return written


def _ranks() -> list[tuple[float, float]]:
    """Groups of objects of about the same rank: (share of the requests that one of them gets, objects)."""
    edges = sorted({round(math.exp(math.log(OBJECTS + 1) * n / _GROUPS)) for n in range(_GROUPS + 1)})
    whole = math.log(OBJECTS) + 0.5772
    return [(1 / (whole * (low + high) / 2), float(high - low)) for low, high in pairwise(edges)]


def _by_day(at: int) -> float:
    """Requests are fewest at 4 in the morning and most at 4 in the afternoon."""
    return 0.65 - 0.35 * math.cos((at % 86_400 / 3600 - 4) * math.pi / 12)


def _whole(number: float, chance: random.Random) -> int:
    return int(number) + (chance.random() < number % 1)
