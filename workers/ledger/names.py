"""Which keys stand behind a scan's counts, until they are put where there is room for them, in Redis.

Owns the lines and their blocks. Whoever counts a key writes its line in the same step, so that each stands as
often as it is counted: once. The scan's coordinator closes blocks of lines and puts them away, one after the
other; a block is known by its number, so that doing it twice gives the same.

Key schema (ledger database)::

    ns:scan:<run>:names       list    lines, as `named` makes them
    ns:scan:<run>:names:<n>   list    block n of them: closed, and not yet put away
    ns:scan:<run>:blocks      hash    `closed`, `gone`, `void` -> number of the last such block; of void ones
                                      the counts were taken back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import orjson

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CLOSE = """
-- KEYS: names, blocks, block; ARGV: number of the block, least lines of it
if redis.call('llen', KEYS[1]) < tonumber(ARGV[2]) then return 0 end
if tonumber(redis.call('hget', KEYS[2], 'closed') or 0) + 1 ~= tonumber(ARGV[1]) then return 0 end
redis.call('rename', KEYS[1], KEYS[3])
redis.call('hset', KEYS[2], 'closed', ARGV[1])
return 1
"""

_GONE = """
-- KEYS: blocks, block; ARGV: number of the block. Lines that were dropped meanwhile are not told of again
if redis.call('exists', KEYS[1]) == 1 then redis.call('hset', KEYS[1], 'gone', ARGV[1]) end
redis.call('del', KEYS[2])
"""


class Named(NamedTuple):
    """A key behind a count."""

    #: absent, differs, excluded, skipped; a finding of a verification; and of failures failed or unread.
    term: str
    key: str
    #: snake_case constant, or a sentence; may be empty.
    reason: str = ""


class Blocks(NamedTuple):
    """Numbers of the last block that is closed, put away, void; 0: none is."""

    closed: int
    gone: int
    void: int


def named(one: Named) -> str:
    """Its line."""
    return orjson.dumps({"term": one.term, "key": one.key, "reason": one.reason}).decode()


def of_line(line: str | bytes) -> Named:
    """What a line names."""
    found = orjson.loads(line)
    return Named(found["term"], found["key"], found["reason"])


def names_key(namespace: str, run: str) -> str:
    """The list that lines are pushed to."""
    return f"{namespace}:scan:{run}:names"


def blocks_key(namespace: str, run: str) -> str:
    """The hash of block numbers."""
    return f"{namespace}:scan:{run}:blocks"


class ScanNames:
    """The lines of every run."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._ns = namespace
        self._close = redis.register_script(_CLOSE)
        self._gone = redis.register_script(_GONE)

    def _block(self, run: str, number: int) -> str:
        return f"{names_key(self._ns, run)}:{number}"

    async def close(self, run: str, *, least: int) -> None:
        """Close a block when there are `least` lines (1 or more) for it."""
        number = (await self.blocks(run)).closed + 1
        keys = [names_key(self._ns, run), blocks_key(self._ns, run), self._block(run, number)]
        await self._close(keys, [number, max(1, least)])

    async def blocks(self, run: str) -> Blocks:
        """How far the blocks of a run are."""
        found = await self._redis.hmget(blocks_key(self._ns, run), Blocks._fields)
        return Blocks(*(int(number or 0) for number in found))

    async def waiting(self, run: str, *, a_block: int) -> int:
        """How many blocks wait to be put away, with what would make some, of so many lines each."""
        blocks = await self.blocks(run)
        lines = int(await self._redis.llen(names_key(self._ns, run)))
        return blocks.closed - blocks.gone + lines // a_block

    async def block(self, run: str, number: int) -> list[str]:
        """The lines of a closed block; none when it was put away."""
        return cast("list[str]", await self._redis.lrange(self._block(run, number), 0, -1))

    async def put_away(self, run: str, number: int) -> None:
        """A block stands somewhere else now."""
        await self._gone([blocks_key(self._ns, run), self._block(run, number)], [number])

    async def forget(self, run: str) -> None:
        """Drop every line of a run."""
        blocks = await self.blocks(run)
        gone = [self._block(run, number) for number in range(blocks.gone + 1, blocks.closed + 1)]
        await self._redis.delete(names_key(self._ns, run), blocks_key(self._ns, run), *gone)

    async def left(self, run: str) -> tuple[Blocks, list[str]]:
        """What is still here, with the blocks that were put away when it was read."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(blocks_key(self._ns, run), Blocks._fields)
            pipe.lrange(names_key(self._ns, run), 0, -1)
            numbers, lines = await pipe.execute()
        blocks = Blocks(*(int(number or 0) for number in numbers))
        gone = blocks.gone
        for number in range(gone + 1, blocks.closed + 1):
            rows = await self.block(run, number)
            if not rows:
                gone = number  # put away while this was read
            elif number > blocks.void:
                lines += rows
        return blocks._replace(gone=gone), cast("list[str]", lines)
