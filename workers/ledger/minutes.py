"""Proof of life, minute by minute, in Redis: who watched for misses, and how many there were.

Owns the records that let the finalize gate tell "no misses" from "nobody was looking": every front and
consumer writes its minute even when it is zero. Also the ledger's own age.

Key schema (ledger database)::

    ns:minutes:<role>:<instance>   hash    unix minute -> JSON counts; kept 8 days
    ns:watchers                    hash    `role:instance` -> unix minute last written
    ns:watchers-ended              set     those that were stopped on purpose
    ns:born                        string  unix seconds when this ledger began
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

#: Minutes that are kept.
KEPT_MINUTES = 8 * 24 * 60


class Minutes:
    """Per-minute records of fronts and consumers."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace

    def _name(self, watcher: str) -> str:
        return f"{self._ns}:minutes:{watcher}"

    async def born(self) -> float:
        """Unix time when this ledger began; set by the first who asks."""
        name = f"{self._ns}:born"
        await self._redis.set(name, repr(time.time()), nx=True)
        value = await self._redis.get(name)
        return float(value) if value is not None else time.time()

    async def write(self, role: str, instance: str, minute: int, counts: Mapping[str, int]) -> None:
        """Write one watcher's counts of one minute (unix seconds // 60); written again, it is replaced."""
        watcher = f"{role}:{instance}"
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._name(watcher), str(minute), orjson.dumps(dict(counts)))
            pipe.hset(f"{self._ns}:watchers", watcher, minute)
            pipe.srem(f"{self._ns}:watchers-ended", watcher)
            pipe.set(f"{self._ns}:born", repr(time.time()), nx=True)
            pipe.hdel(self._name(watcher), str(minute - KEPT_MINUTES))
            pipe.expire(self._name(watcher), KEPT_MINUTES * 60)
            await pipe.execute()

    async def watchers(self) -> dict[str, int]:
        """Every watcher ever seen (`role:instance`) with the minute it last wrote."""
        rows = await self._redis.hgetall(f"{self._ns}:watchers")
        return {name: int(minute) for name, minute in cast("dict[str, str]", rows).items()}

    async def read(self, watcher: str) -> dict[int, dict[str, int]]:
        """One watcher's minutes."""
        rows = await self._redis.hgetall(self._name(watcher))
        return {int(minute): orjson.loads(counts) for minute, counts in rows.items()}

    async def of(self, watcher: str, minute: int) -> dict[str, int]:
        """One minute of one watcher; empty when it wrote none."""
        row = await self._redis.hget(self._name(watcher), str(minute))
        return orjson.loads(row) if row is not None else {}

    async def retire(self, watcher: str) -> None:
        """Say that a watcher was stopped on purpose: its silence from now on is no gap, its record stays.

        Those that were stopped before any minute that is still kept are forgotten.
        """
        await self._redis.sadd(f"{self._ns}:watchers-ended", watcher)
        oldest = int(time.time()) // 60 - KEPT_MINUTES
        known = await self.watchers()
        gone = [name for name in await self.ended() if known.get(name, 0) < oldest and name != watcher]
        if gone:
            await self._redis.hdel(f"{self._ns}:watchers", *gone)
            await self._redis.srem(f"{self._ns}:watchers-ended", *gone)

    async def ended(self) -> frozenset[str]:
        """Watchers that were stopped on purpose."""
        found = await self._redis.smembers(f"{self._ns}:watchers-ended")
        return frozenset(cast("set[str]", found))
