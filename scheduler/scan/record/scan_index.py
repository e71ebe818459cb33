"""Which scans are under way, and which were requested last, without a look at every record there ever was.

Owns the index beside the records. It is written with them in one step; records of a version that had no
index, or that such a version writes meanwhile, are found by a look at all of them: when there are more
records than the index knows, and every ten minutes by whoever runs scans. Who only shows them looks at none.

Key schema (ledger database)::

    ns:<records>-index          zset    name -> infinity while it is under way, else when it was requested
    ns:<records>-index:whole    string  there while the index is known to have every record
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import orjson

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: Phases in which a scan has work to do.
ACTIVE = frozenset({"requested", "inventory", "compare", "move"})
#: Seconds after which all records are looked at again; after so many times its length, where that is more.
_WHOLE_S: Final = 600
_TIMES_ITS_LENGTH: Final = 300
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


class WrongCursor(ValueError):
    """No page gave such a cursor."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"cursor {cursor!r}: one that a page of scans gave is expected")


class Page(NamedTuple):
    """Some names, in order; `cursor` gives those that follow (empty: none do), `total` is all there are."""

    names: list[str]
    cursor: str
    total: int


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
        return await self._complete(again=True)

    async def page(self, most: int, cursor: str = "") -> Page:
        """Names of those that are under way, then of those that were requested last, behind a cursor.

        Raises:
            WrongCursor: it is none that a page gave.
        """
        await self._complete(again=False)
        begin = await self._behind(cursor) if cursor else 0
        rows = await self._redis.zrevrange(self.key, begin, begin + most, withscores=True)
        shown = cast("list[tuple[str, float]]", rows)[:most]
        last = f"{shown[-1][1]!r}:{shown[-1][0]}" if len(rows) > most else ""
        return Page([name for name, _ in shown], last, int(await self._redis.zcard(self.key)))

    async def _behind(self, cursor: str) -> int:
        """How many stand before what follows the cursor."""
        number, colon, name = cursor.partition(":")
        try:
            score = float(number)
        except ValueError:
            score = math.nan
        if not colon or math.isnan(score):
            raise WrongCursor(cursor)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zscore(self.key, name)
            pipe.zrevrank(self.key, name)
            pipe.zcount(self.key, f"({score!r}", "+inf")
            now, rank, before = await pipe.execute()
        # One that has begun anew since stands somewhere else: what came before it is passed over as well.
        return int(rank) + 1 if now == score else int(before)

    async def _complete(self, *, again: bool) -> list[str]:
        """The names of those under way; records that were written without the index are found before, when
        there are such or (`again`) may be.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.exists(self._whole)
            pipe.hlen(self._records)
            pipe.zcard(self.key)
            pipe.zrangebyscore(self.key, "inf", "inf")
            whole, records, known, under_way = await pipe.execute()
        if records <= known and (whole or not again):
            return cast("list[str]", under_way)
        cursor, began = 0, time.monotonic()
        while True:
            cursor, found = await self._redis.hscan(self._records, cursor, count=_AT_ONCE)
            await self._look_at(cast("dict[str, str]", found))
            if cursor == 0:
                break
        apart_s = max(_WHOLE_S, int((time.monotonic() - began) * _TIMES_ITS_LENGTH))
        await self._redis.set(self._whole, "1", ex=apart_s)
        return cast("list[str]", await self._redis.zrangebyscore(self.key, "inf", "inf"))

    async def _look_at(self, rows: dict[str, str]) -> None:
        if not rows:
            return
        known = await self._redis.zmscore(self.key, list(rows))
        told: list[str] = []
        for (name, row), stands in zip(rows.items(), known, strict=True):
            record = orjson.loads(row)
            score = score_of(record["phase"], float(record.get("requested_at", 0.0)))
            if stands != float(score):
                told += [name, row, score]
        if told:
            await self._add([self._records, self.key], told)
