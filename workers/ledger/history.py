"""How it went, minute by minute and hour by hour: what charts are drawn of.

Owns the samples. One process of the fleet writes each minute's; an hour is the sum of its minutes. Numbers
that only grow (objects, bytes) are kept as they stood, so that a minute nobody wrote costs detail and no
sum.

Key schema (ledger database)::

    ns:history:lock:<minute>  string  whoever writes that minute; two minutes
    ns:history:minutes        hash    unix minute -> JSON sample without its details; kept 2 days
    ns:history:details        hash    unix minute -> JSON `first_bytes` and `origins`; kept 4 hours
    ns:history:hours          hash    unix hour -> JSON sample without details; kept 31 days
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

#: How long samples are kept.
KEPT_MINUTES = 2 * 24 * 60
KEPT_HOURS = 31 * 24
KEPT_DETAILS = 4 * 60
#: Samples that are read without letting anything else run.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One minute, or one hour."""

    #: Unix time in seconds of its beginning.
    at: int
    #: Answers of gateways in this time: by the store, and those that an origin was needed for.
    hits: int = 0
    origin: int = 0
    #: Objects and bytes stored since the ledger began.
    stored: int = 0
    stored_bytes: int = 0
    #: Listed failures, and messages that waited and seconds of the oldest one, by lane.
    failures: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)
    #: Details, of recent minutes only. First-byte times: kind (`hit`, `miss`) -> bucket -> answers.
    first_bytes: dict[str, dict[str, int]] = field(default_factory=dict)
    #: Host -> answers, p50 and p99 in seconds (None: no answer).
    origins: dict[str, tuple[int, float | None, float | None]] = field(default_factory=dict)


_FIELDS = frozenset(part.name for part in fields(Sample))
_DETAILS = frozenset({"first_bytes", "origins"})


class History:
    """Samples of the last two days and of the last month."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = f"{namespace}:history"

    async def mine(self, minute: int) -> bool:
        """Whether the caller is the one who writes this minute (unix seconds // 60)."""
        return bool(await self._redis.set(f"{self._ns}:lock:{minute}", "1", nx=True, ex=120))

    async def write(self, sample: Sample) -> None:
        """Write a minute and add it to its hour; only after `mine`, so nobody else does."""
        minute, hour = sample.at // 60, sample.at // 3600
        before = await self._redis.hget(f"{self._ns}:hours", str(hour))
        known = _sample(before) if before is not None else Sample(at=hour * 3600)
        whole = Sample(
            at=hour * 3600,
            hits=known.hits + sample.hits,
            origin=known.origin + sample.origin,
            stored=sample.stored,
            stored_bytes=sample.stored_bytes,
            failures=sample.failures,
            waiting=sample.waiting,
            oldest_s=sample.oldest_s,
        )
        lean = {name: value for name, value in asdict(sample).items() if name not in _DETAILS}
        details = {"first_bytes": sample.first_bytes, "origins": sample.origins}
        old_details = [str(minute - KEPT_DETAILS - back) for back in range(60)]
        old_minutes = [str(minute - KEPT_MINUTES - back) for back in range(60)]
        old_hours = [str(hour - KEPT_HOURS - back) for back in range(24)]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"{self._ns}:minutes", str(minute), orjson.dumps(lean))
            if sample.first_bytes or sample.origins:
                pipe.hset(f"{self._ns}:details", str(minute), orjson.dumps(details))
            pipe.hdel(f"{self._ns}:details", *old_details)
            pipe.hset(f"{self._ns}:hours", str(hour), orjson.dumps(asdict(whole)))
            pipe.hdel(f"{self._ns}:minutes", *old_minutes)
            pipe.hdel(f"{self._ns}:hours", *old_hours)
            await pipe.execute()

    async def minutes(self, *, since: int) -> list[Sample]:
        """The minutes that began at `since` (unix seconds) or later, oldest first; the last with details."""
        rows = await self._rows("minutes", since // 60)
        details = await self._rows("details", since // 60)
        return await _samples([(row, details.get(number)) for number, row in sorted(rows.items())])

    async def hours(self, *, since: int) -> list[Sample]:
        """The hours that began at `since` (unix seconds) or later, oldest first."""
        rows = await self._rows("hours", since // 3600)
        return await _samples([(row, None) for _, row in sorted(rows.items())])

    async def some(self, *, minutes: Sequence[int] = (), hours: Sequence[int] = ()) -> list[list[Sample]]:
        """These minutes (unix seconds // 60) and these hours (// 3600), as far as they were written."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for what, numbers in (("minutes", minutes), ("details", minutes), ("hours", hours)):
                pipe.hmget(f"{self._ns}:{what}", [str(n) for n in numbers] or ["-"])
            of_minutes, details, of_hours = await pipe.execute()
        return [
            await _samples([pair for pair in zip(of_minutes, details, strict=True) if pair[0] is not None]),
            await _samples([(row, None) for row in of_hours if row is not None]),
        ]

    async def _rows(self, what: str, first: int) -> dict[int, str]:
        """Rows by their number, from `first` on."""
        rows = cast("dict[str, str]", await self._redis.hgetall(f"{self._ns}:{what}"))
        return {int(number): row for number, row in rows.items() if int(number) >= first}


def summed(*parts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Histograms of several times or fronts as one: kind -> bucket -> answers."""
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        for kind, counts in part.items():
            into = found.setdefault(kind, {})
            for bucket, number in counts.items():
                into[bucket] = into.get(bucket, 0) + number
    return found


async def _samples(rows: Sequence[tuple[str, str | None]]) -> list[Sample]:
    """Samples of rows and their details, some at a time: whoever serves clients beside this goes on."""
    found = []
    for at, (row, details) in enumerate(rows):
        if at % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        found.append(_sample(row, details))
    return found


def _sample(row: str | bytes, details: str | None = None) -> Sample:
    known = orjson.loads(row)
    if details is not None:
        known |= orjson.loads(details)
    # Another version of this program may have written more.
    return Sample(**{name: value for name, value in known.items() if name in _FIELDS})
