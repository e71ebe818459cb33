"""What became of the keys, in Redis: counts of each rule, and the exact accounting of scans.

Owns totals. Delivery is at least once, so a scan's outcomes are *set* by place (scan, batch, position), never
added; totals of a batch are folded in once, when its last place is known. Counts of rules are plain counters:
they feed curves, not proofs.

Key schema (ledger database)::

    ns:counts:<bucket>            hash    `rule` NUL `outcome` -> number, `rule` NUL `bytes` -> number
    ns:scan:<run>:b:<batch>       string  one byte a position: CODES; only while the batch is open
    ns:scan:<run>:bytes:<batch>   hash    position -> bytes stored; only while the batch is open
    ns:scan:<run>:folded          bitmap  batch number -> its totals are folded
    ns:scan:<run>:totals          hash    `group` NUL `outcome` -> number, `group` NUL `bytes` -> number
    ns:scan:<run>:open            hash    batch number -> `size|group`
    ns:scan:<run>:stop            string  `pause` or `cancel`: what workers do with batches of this run
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, cast

from workers.ledger.names import Named, named, names_key
from workers.ledger.needed import note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

#: One byte for what became of a place in a batch. `p` (pending) is the start, only it and `f` may change.
CODES: Mapping[str, str] = {
    "pending": "p",
    "stored": "s",
    "already_present": "a",
    "absent_at_origin": "n",
    "skipped": "k",
    "failed": "f",
    "differs": "d",
}
_NAMES = {code: name for name, code in CODES.items()}

_OPEN = """
-- KEYS: batch, open, folded; ARGV: batch number, size, group
if redis.call('getbit', KEYS[3], ARGV[1]) == 1 then return 0 end
if redis.call('exists', KEYS[1]) == 0 then
  redis.call('set', KEYS[1], string.rep('p', tonumber(ARGV[2])))
  redis.call('hset', KEYS[2], ARGV[1], ARGV[2] .. '|' .. ARGV[3])
end
return 1
"""

_SET = """
-- KEYS: batch, bytes, folded, totals, open, names; ARGV: batch number, then position, code, bytes and line
-- (or nothing) of each item
if redis.call('getbit', KEYS[3], ARGV[1]) == 1 then return 0 end
local meta = redis.call('hget', KEYS[5], ARGV[1])
if not meta then return -1 end
for i = 2, #ARGV, 4 do
  local pos = tonumber(ARGV[i])
  local old = redis.call('getrange', KEYS[1], pos, pos)
  if old == 'p' or (old == 'f' and ARGV[i + 1] ~= 'p') then
    redis.call('setrange', KEYS[1], pos, ARGV[i + 1])
    if ARGV[i + 2] ~= '0' then redis.call('hset', KEYS[2], pos, ARGV[i + 2]) end
    if ARGV[i + 3] ~= '' then redis.call('rpush', KEYS[6], ARGV[i + 3]) end
  end
end
local codes = redis.call('get', KEYS[1])
if string.find(codes, '[pf]') then return 1 end
local group = string.match(meta, '^%d+|(.*)$')
local n = {}
for i = 1, #codes do
  local c = string.sub(codes, i, i)
  n[c] = (n[c] or 0) + 1
end
for c, count in pairs(n) do redis.call('hincrby', KEYS[4], group .. '\\0' .. c, count) end
local bytes = 0
for _, b in ipairs(redis.call('hvals', KEYS[2])) do bytes = bytes + tonumber(b) end
if bytes > 0 then redis.call('hincrby', KEYS[4], group .. '\\0bytes', bytes) end
redis.call('setbit', KEYS[3], ARGV[1], 1)
redis.call('hdel', KEYS[5], ARGV[1])
redis.call('del', KEYS[1], KEYS[2])
return 2
"""


class Outcomes:
    """Counters and scan accounting of every bucket."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace
        self._open = redis.register_script(_OPEN)
        self._set = redis.register_script(_SET)

    async def count(
        self, bucket: str, counts: Mapping[tuple[str, str], int], *, needed: Mapping[str, int] | None = None
    ) -> None:
        """Add to the counters of a bucket: (rule, outcome or `bytes`) -> number.

        `needed`, rule -> number, are those that clients' misses asked for and an origin had: in the same
        round they are noted with their time, for the gate.
        """
        if not counts:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for (rule, what), number in counts.items():
                pipe.hincrby(f"{self._ns}:counts:{bucket}", f"{rule}\x00{what}", number)
            if needed:
                note(pipe, self._ns, bucket, needed, now=time.time())
            await pipe.execute()

    async def counts(self, bucket: str) -> dict[tuple[str, str], int]:
        """The counters of a bucket."""
        rows = await self._redis.hgetall(f"{self._ns}:counts:{bucket}")
        return {_pair(name): int(number) for name, number in cast("dict[str, str]", rows).items()}

    def _scan(self, run: str, what: str) -> str:
        return f"{self._ns}:scan:{run}:{what}"

    async def open_batch(self, run: str, batch: int, *, size: int, group: str) -> bool:
        """Announce a batch of `size` places before it is enqueued; False when it was folded before."""
        keys = [self._scan(run, f"b:{batch}"), self._scan(run, "open"), self._scan(run, "folded")]
        return bool(await self._open(keys, [batch, size, group]))

    async def settled(self, run: str, batch: int, positions: Sequence[int]) -> frozenset[int]:
        """Which of these places of a batch are final: a message that came twice need not work them off."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.getbit(self._scan(run, "folded"), batch)
            pipe.get(self._scan(run, f"b:{batch}"))
            folded, codes = await pipe.execute()
        if folded:
            return frozenset(positions)
        known = cast("str", codes or "")
        return frozenset(at for at in positions if 0 <= at < len(known) and known[at] not in "pf")

    async def set_places(
        self,
        run: str,
        batch: int,
        places: Sequence[tuple[int, str, int]],
        names: Mapping[int, Named] | None = None,
    ) -> bool:
        """Set what became of places of a batch, as (position, outcome of `CODES`, bytes stored).

        False where the account does not know the batch: it was never opened, or Redis has forgotten it.

        Saying the same twice changes nothing; a failure may be replaced by what a retry gave; any other final
        outcome stays. `names`, by position, are written down with the places that this really sets.
        """
        known = names or {}
        keys = [
            self._scan(run, name) for name in (f"b:{batch}", f"bytes:{batch}", "folded", "totals", "open")
        ]
        keys.append(names_key(self._ns, run))
        args: list[int | str] = [batch]
        for position, outcome, size in places:
            line = named(known[position]) if position in known else ""
            args += [position, CODES[outcome], size, line]
        return int(await self._set(keys, args)) >= 0

    async def totals(self, run: str) -> dict[str, dict[str, int]]:
        """Totals of a run, open batches included: group -> outcome (of `CODES`, or `bytes`) -> number.

        A batch that is folded while this reads counts as pending: no place is ever missing from the sum.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._scan(run, "totals"))
            pipe.hgetall(self._scan(run, "open"))
            folded, open_batches = await pipe.execute()
        totals: dict[str, dict[str, int]] = {}
        for name, number in cast("dict[str, str]", folded).items():
            group, code = _pair(name)
            totals.setdefault(group, {})[_NAMES.get(code, code)] = int(number)
        numbers = list(open_batches)
        metas = [meta.partition("|") for meta in open_batches.values()]
        for at in range(0, len(numbers), 500):
            async with self._redis.pipeline(transaction=False) as pipe:
                for number in numbers[at : at + 500]:
                    pipe.get(self._scan(run, f"b:{number}"))
                    pipe.hvals(self._scan(run, f"bytes:{number}"))
                answers = await pipe.execute()
            for index, (places, _, group) in enumerate(metas[at : at + 500]):
                codes, sizes = answers[2 * index], answers[2 * index + 1]
                row = totals.setdefault(group, {})
                for code in CODES["pending"] * int(places) if codes is None else codes:
                    row[_NAMES[code]] = row.get(_NAMES[code], 0) + 1
                if sizes:
                    row["bytes"] = row.get("bytes", 0) + sum(int(size) for size in sizes)
        return totals

    async def stop_scan(self, run: str, how: Literal["pause", "cancel"] | None) -> None:
        """Tell workers to put batches of a run back, to drop them, or (None) to work them off again."""
        if how is None:
            await self._redis.delete(self._scan(run, "stop"))
        else:
            await self._redis.set(self._scan(run, "stop"), how)

    async def scan_stop(self, run: str) -> str | None:
        """What workers are told to do with batches of a run; None is to go on."""
        return cast("str | None", await self._redis.get(self._scan(run, "stop")))

    async def forget_scan(self, run: str) -> None:
        """Delete the accounting of a scan run."""
        names = [name async for name in self._redis.scan_iter(match=f"{self._ns}:scan:{run}:*", count=1000)]
        for at in range(0, len(names), 500):
            await self._redis.delete(*names[at : at + 500])


def _pair(name: str) -> tuple[str, str]:
    left, _, right = name.partition("\x00")
    return left, right
