"""The keys that a verification on the fleet drew for its sample, in Redis.

Owns that the lowest lots of all ranges stay, and no more: adding one again changes nothing, and nothing once
the run is forgotten.

Key schema (ledger database)::

    ns:scan:<run>:lots     zset  key -> its lot, the lowest of all that were drawn
    ns:scan:<run>:drawn    zset  the same keys in their order (by bytes), once all have drawn
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scheduler.scan.shards.records import records_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from scheduler.scan.record.shard import KeyRange
    from scheduler.scan.verify.listed import Lot

_ADD = """
-- KEYS: lots, records of the run's shards; ARGV: places, then lot and key of each
if redis.call('exists', KEYS[2]) == 0 then return end
redis.call('zadd', KEYS[1], unpack(ARGV, 2))
redis.call('zremrangebyrank', KEYS[1], ARGV[1], -1)
"""
_AT_ONCE = 1_000


class DrawnKeys:
    """Those of one run."""

    def __init__(self, redis: Redis, *, namespace: str, run: str) -> None:
        self._redis = redis
        self._lots = f"{namespace}:scan:{run}:lots"
        self._drawn = f"{namespace}:scan:{run}:drawn"
        self._records = f"{namespace}:{records_of(run)}"
        self._add = redis.register_script(_ADD)

    async def add(self, lots: Sequence[Lot], most: int) -> None:
        """Let these compete for the `most` places."""
        for at in range(0, len(lots), _AT_ONCE):
            some = [word for lot in lots[at : at + _AT_ONCE] for word in (-lot.rank, lot.key)]
            await self._add([self._lots, self._records], [most, *some])

    async def settle(self) -> int:
        """All have drawn; how many were."""
        return int(await self._redis.zunionstore(self._drawn, {self._lots: 0}))

    async def cuts(self, parts: int) -> list[str]:
        """Keys that cut what was drawn into so many parts."""
        number = int(await self._redis.zcard(self._drawn))
        places = sorted({number * part // parts for part in range(1, parts)} - {0})
        found = [await self._redis.zrange(self._drawn, place, place) for place in places]
        return [str(key) for keys in found for key in keys]

    async def keys(self, range_: KeyRange, after: str | None, most: int) -> list[str]:
        """The next of a range."""
        low, high = _bounds(range_, after)
        found = await self._redis.zrangebylex(self._drawn, low, high, start=0, num=most)
        return cast("list[str]", found)

    async def middle(self, range_: KeyRange, after: str, least: int) -> tuple[str | None, int]:
        """A key that halves what is behind one, and how many it has behind it; None: too few."""
        low, high = _bounds(range_, after)
        left = int(await self._redis.zlexcount(self._drawn, low, high))
        if left < 2 * least:
            return None, 0
        (at,) = await self._redis.zrangebylex(self._drawn, low, high, start=left // 2, num=1)
        return str(at), left - left // 2

    async def forget(self) -> None:
        """Drop them."""
        await self._redis.delete(self._lots, self._drawn)


def _bounds(range_: KeyRange, after: str | None) -> tuple[str, str]:
    low = f"[{range_.begin}" if range_.begin else "-"
    return f"({after}" if after is not None else low, "+" if range_.end is None else f"({range_.end}"
