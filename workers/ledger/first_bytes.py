"""How long clients waited for first bytes, minute by minute, over all fronts, in Redis.

Owns the record. Each front writes its counts of the minute, by kind of answer and bucket of a histogram whose
bounds are the same everywhere, so that percentiles can be read over the fleet. Short-lived: charts keep the
sum (`workers.ledger.history`).

Key schema (ledger database)::

    ns:first-bytes:<minute>   hash  instance -> JSON {kind: {bucket: answers}}; one hour
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import orjson

from workers.ledger.history import summed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

#: Seconds that a minute's record is kept.
KEPT_S = 3600


class FirstBytes:
    """First-byte times of the fronts' answers."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = f"{namespace}:first-bytes"

    async def write(self, instance: str, minute: int, counts: Mapping[tuple[str, int], int]) -> None:
        """Write one front's minute, as (kind, bucket) -> answers; written again, it is replaced."""
        if not counts:
            return
        row: dict[str, dict[str, int]] = {}
        for (kind, bucket), number in counts.items():
            row.setdefault(kind, {})[str(bucket)] = number
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(f"{self._ns}:{minute}", instance, orjson.dumps(row))
            pipe.expire(f"{self._ns}:{minute}", KEPT_S)
            await pipe.execute()

    async def of(self, minute: int) -> dict[str, dict[str, int]]:
        """One minute over all fronts: kind -> bucket -> answers."""
        rows = cast("list[str]", await self._redis.hvals(f"{self._ns}:{minute}"))
        return summed(*(orjson.loads(row) for row in rows))
