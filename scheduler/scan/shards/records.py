"""The shards of a run, in Redis: what is known of each, and what is said to all.

Owns the records beside a scan's own. A shard's is of the same kind as a scan's, with its lease, its window
and its checkpoint under the same names; it is written by whoever holds its lease. Cutting and splitting are
one step each: at no time do the ranges leave a gap or overlap. Once a run is forgotten nothing is written of
it any more, however late somebody comes who still worked for it.

Key schema (ledger database)::

    ns:scan:<run>:shard-records    hash    `<run>/<number>` -> JSON ScanState of that shard
    ns:scan:<run>:shards           hash    `open` -> 1 while shards may run, `last` -> the last number,
                                           `batches` -> batch numbers given out, `due` -> unix ms when the
                                           next key may be sent (a rate), `split:<number>` -> `wanted`, or
                                           `no` where nothing is to be split, `unshared` -> 1: some process
                                           lacks the inventory
    ns:scan-workers                zset    `host:pid:threads` of processes that run shards -> unix time
    ns:scan-lease:<run>/<number>, ns:scan-window:…, ns:scan-sent:…    as a scan's
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.scan.record.state import SERVER_S, ScanStates, dump
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from scheduler.scan.record.state import ScanState

_CUT = """
-- KEYS: scans, scan's lease, records, control; ARGV: token, scan, its record, last number, then name and
-- record of each shard
if redis.call('get', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('hset', KEYS[1], ARGV[2], ARGV[3])
redis.call('del', KEYS[3])
for i = 5, #ARGV, 2 do redis.call('hset', KEYS[3], ARGV[i], ARGV[i + 1]) end
redis.call('hset', KEYS[4], 'last', ARGV[4])
return 1
"""

_SPLIT = """
-- KEYS: records, shard's lease, control; ARGV: token, name and record of the shard, name and record of the
-- new one, field of the wish
if redis.call('get', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('hexists', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('hset', KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
redis.call('hdel', KEYS[3], ARGV[6])
return 1
"""

_PACE = """
-- KEYS: control, records; ARGV: unix ms now, ms that these keys take
if redis.call('exists', KEYS[2]) == 0 then return 0 end
local at = math.max(tonumber(ARGV[1]), tonumber(redis.call('hget', KEYS[1], 'due') or 0)) + tonumber(ARGV[2])
redis.call('hset', KEYS[1], 'due', at)
return math.floor(at - tonumber(ARGV[1]))
"""

_WHILE_KEPT = """
-- KEYS: what is written, records; ARGV: the command, then its arguments behind the key
if redis.call('exists', KEYS[2]) == 0 then return false end
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
"""


class RunForgotten(FerrymanError):
    """The run is over and was forgotten: nothing more is written of it."""


class Told(NamedTuple):
    """What a shard is told."""

    #: It may go on.
    go_on: bool
    #: Its range is to be split behind its checkpoint.
    split: bool


def records_of(run: str) -> str:
    """The hash of the records of a run's shards, behind the namespace."""
    return f"scan:{run}:shard-records"


class ShardStates(ScanStates):
    """The records of one run's shards."""

    _indexed = False
    _made_elsewhere = True

    def __init__(self, redis: Redis, *, namespace: str, run: str, of: str = "scans") -> None:
        """`of`: the hash that the record of the run itself stands in."""
        super().__init__(redis, namespace=namespace, records=records_of(run))
        self._run = run
        self._scans = f"{namespace}:{of}"
        self._control = f"{namespace}:scan:{run}:shards"
        self._stop = f"{namespace}:scan:{run}:stop"
        self._cut = redis.register_script(_CUT)
        self._split = redis.register_script(_SPLIT)
        self._pace = redis.register_script(_PACE)
        self._kept = redis.register_script(_WHILE_KEPT)

    def name(self, number: int) -> str:
        """The name of a shard's record."""
        return f"{self._run}/{number}"

    async def cut(self, scan: ScanState, token: str, shards: Sequence[ScanState]) -> bool:
        """Write the scan's record and those of all its shards, in place of any there were.

        Nothing is written (False) without the scan's lease.
        """
        keys = [self._scans, f"{self._ns}:scan-lease:{scan.name}", self._records, self._control]
        last = max(shard.shard.number for shard in shards if shard.shard is not None)
        args: list[str | bytes | int] = [token, scan.name, dump(scan), last]
        for shard in shards:
            args += [shard.name, dump(shard)]
        return bool(await self._cut(keys, args))

    async def split(self, shard: ScanState, new: ScanState, token: str) -> bool:
        """Write a shard with a smaller range and the new one with the rest, or nothing without the lease."""
        keys = [self._records, f"{self._ns}:scan-lease:{shard.name}", self._control]
        wish = f"split:{shard.name.rpartition('/')[2]}"
        return bool(await self._split(keys, [token, shard.name, dump(shard), new.name, dump(new), wish]))

    async def _while_kept(self, command: str, key: str, *arguments: str | int) -> Any:
        """Carry a command out unless the run is forgotten; None then."""
        return await self._kept([key, self._records], [command, *arguments])

    async def last_number(self) -> int:
        """The highest number that a shard of the run has had; -1 before it is cut."""
        found = await self._redis.hget(self._control, "last")
        return -1 if found is None else int(found)

    async def next_number(self) -> int:
        """A number that no shard of the run has.

        Raises:
            RunForgotten: there is no such run any more.
        """
        return await self._counted("last", 1)

    async def reserve(self, batches: int) -> int:
        """The first of so many batch numbers of the run; one that is not used harms nobody.

        Raises:
            RunForgotten: there is no such run any more.
        """
        return await self._counted("batches", batches) - batches

    async def _counted(self, field: str, by: int) -> int:
        found = await self._while_kept("hincrby", self._control, field, by)
        if found is None:
            raise RunForgotten(self._run)
        return int(found)

    async def pace(self, seconds: float) -> float:
        """Take the next place in the row of what is sent at a rate; seconds until what was taken is over."""
        keys = [self._control, self._records]
        return int(await self._pace(keys, [int(time.time() * 1000), int(seconds * 1000)])) / 1000

    async def mark_sent(self, name: str, batch: int) -> None:
        """The queue has this batch of a shard, and all before it."""
        await self._while_kept("set", f"{self._ns}:scan-sent:{name}", batch + 1)

    async def allow(self, *, running: bool) -> None:
        """Let shards run, or not."""
        if running:
            await self._while_kept("hset", self._control, "open", "1")
        else:
            await self._redis.hdel(self._control, "open")

    async def told(self, number: int) -> Told:
        """What is said to a shard: by an operator to the run, by its coordinator to all or to this one."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._stop)
            pipe.hmget(self._control, ["open", f"split:{number}"])
            stop, (open_, split) = await pipe.execute()
        return Told(go_on=stop is None and open_ is not None, split=split == "wanted")

    async def want_split(self, number: int) -> None:
        """Ask whoever runs a shard to split it; one that cannot be split is not asked again."""
        await self._while_kept("hsetnx", self._control, f"split:{number}", "wanted")

    async def not_split(self, number: int) -> None:
        """There is nothing to split."""
        await self._while_kept("hset", self._control, f"split:{number}", "no")

    async def wishes(self, numbers: Sequence[int]) -> dict[int, str]:
        """What stands of the wish to split, by number; nothing of those of which none is said."""
        if not numbers:
            return {}
        found = await self._redis.hmget(self._control, [f"split:{number}" for number in numbers])
        return {number: str(wish) for number, wish in zip(numbers, found, strict=True) if wish}

    async def say_unshared(self) -> None:
        """Some process that runs shards has no access to the file of the inventory."""
        await self._while_kept("hset", self._control, "unshared", "1")

    async def unshared(self) -> bool:
        """Whether that was said."""
        return await self._redis.hget(self._control, "unshared") is not None

    async def held(self, numbers: Sequence[int]) -> set[int]:
        """Which shards somebody runs at this moment."""
        if not numbers:
            return set()
        found = await self._redis.mget([f"{self._ns}:scan-lease:{self.name(number)}" for number in numbers])
        return {number for number, token in zip(numbers, found, strict=True) if token}

    async def forget(self) -> None:
        """Drop everything of a run that is over and of which nobody asks any more, and take nothing more."""
        names = await self._redis.hkeys(self._records)
        await self._redis.delete(self._records, self._control, self._stop)
        # Only now: until then whoever holds a shard writes its window.
        await self.forget_windows(int(str(name).rpartition("/")[2]) for name in names)

    async def forget_windows(self, numbers: Iterable[int]) -> None:
        """Drop what stands beside the records of shards that are done, or of a run that is over."""
        names = [
            f"{self._ns}:{what}:{self.name(number)}"
            for number in numbers
            for what in ("scan-window", "scan-sent")
        ]
        if names:
            await self._redis.delete(*names)


async def say_working(redis: Redis, namespace: str, worker: str, threads: int) -> None:
    """Say that a process (`host:pid`) runs so many shards at once; to be said every few seconds."""
    now = time.time()
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zadd(f"{namespace}:scan-workers", {f"{worker}:{threads}": now})
        pipe.zremrangebyscore(f"{namespace}:scan-workers", 0, now - 60)
        await pipe.execute()


async def capacity(redis: Redis, namespace: str) -> int:
    """How many shards the processes that said so lately run at once."""
    found = await redis.zrangebyscore(f"{namespace}:scan-workers", time.time() - SERVER_S, "inf")
    return sum(int(str(name).rpartition(":")[2]) for name in found)
