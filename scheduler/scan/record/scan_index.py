"""Which scans are under way, and which were requested last, without a look at every record there ever was.

Owns the index beside the records. It is written with them in one step; records of a version that had no
index, or that such a version writes meanwhile, are found by a look at all of them, every ten minutes at most.

Key schema (ledger database)::

    ns:<records>-index          zset    name -> infinity while it is under way, else when it was requested
    ns:<records>-index:whole    string  there while the index is known to have every record
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import orjson

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Phases in which a scan has work to do.
ACTIVE = frozenset({"requested", "inventory", "compare", "move"})
#: Seconds after which all records are looked at again.
_WHOLE_S: Final = 600
_AT_ONCE: Final = 200

_ADD = """
-- KEYS: records, index; ARGV: name, its record, score, and so on; what was written since is passed over
for i = 1, #ARGV, 3 do
  if redis.call('hget', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('zadd', KEYS[2], ARGV[i + 2], ARGV[i])
  end
end
return 1
"""


def score_of(phase: str, requested_at: float) -> str:
    """Where a record stands in the index. Pure."""
    return "inf" if phase in ACTIVE else repr(requested_at)


class ScanIndex:
    """The index of one hash of records."""

    def __init__(self, redis: Redis, *, records: str) -> None:
        """`records`: its whole key."""
        self._redis = redis
        self._records = records
        self.key = f"{records}-index"
        self._whole = f"{self.key}:whole"
        self._add = redis.register_script(_ADD)

    async def live(self) -> list[str]:
        """Names of the scans that are under way."""
        await self._complete()
        return cast("list[str]", await self._redis.zrangebyscore(self.key, "inf", "inf"))

    async def recent(self, most: int) -> list[str]:
        """Names of those that are under way, then of those that were requested last."""
        await self._complete()
        return cast("list[str]", await self._redis.zrevrange(self.key, 0, most - 1))

    async def _complete(self) -> None:
        """Find records that were written without the index, when it is time."""
        if await self._redis.exists(self._whole):
            return
        cursor = 0
        while True:
            cursor, found = await self._redis.hscan(self._records, cursor, count=_AT_ONCE)
            rows = cast("dict[str, str]", found)
            told: list[str] = []
            for name, row in rows.items():
                record = orjson.loads(row)
                told += [name, row, score_of(record["phase"], float(record.get("requested_at", 0.0)))]
            if told:
                await self._add([self._records, self.key], told)
            if cursor == 0:
                break
        await self._redis.set(self._whole, "1", ex=_WHOLE_S)
