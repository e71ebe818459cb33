"""All tombstones of a bucket (SEMANTICS.md S15): listed, taken away, and where they lie.

Owns looking through Redis for them, and the set of directories below which there are some. What one is, and
when it is put or lifted, is `claims`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

#: Keys that Redis looks at in one step.
_SCANNED: Final = 500


async def listed(redis: Redis, prefix: str, limit: int) -> list[tuple[str, str, float]]:
    """(key, reason, seconds left) in key order; at most `limit`. `prefix` is what their names begin with."""
    rows: dict[str, tuple[str, float]] = {}
    async for keys in _some(redis, prefix):
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(prefix + key)
                pipe.pttl(prefix + key)
            answers = await pipe.execute()
        for key, reason, left in zip(keys, answers[::2], answers[1::2], strict=True):
            if reason is not None:
                rows[key] = (reason, left / 1000)
        if len(rows) >= limit:
            break
    return [(key, *rows[key]) for key in sorted(rows)[:limit]]


async def prune(redis: Redis, prefix: str, keep: Callable[[str], bool]) -> tuple[int, int]:
    """Take away those of keys that `keep` does not want; how many went, and how many are left."""
    removed = left = 0
    async for keys in _some(redis, prefix):
        unwanted = [prefix + key for key in keys if not keep(key)]
        left += len(keys) - len(unwanted)
        removed += int(await redis.delete(*unwanted)) if unwanted else 0
    return removed, left


def note_directories(pipe: Pipeline, name: str, keys: Sequence[str], *, ttl_s: float) -> None:
    """Note below which directories these tombstones are; the set `name` outlives the last of them."""
    found = {key[: at + 1] for key in keys for at, char in enumerate(key) if char == "/"}
    if found:
        seconds = int(ttl_s) + 1
        pipe.sadd(name, *found)
        pipe.expire(name, seconds, nx=True)
        pipe.expire(name, seconds, gt=True)


async def below(redis: Redis, name: str, directories: Sequence[str]) -> set[str]:
    """Those of the directories (`a/`) below which there may be a tombstone."""
    if not directories:
        return set()
    answers = await cast("Awaitable[list[int]]", redis.smismember(name, list(directories)))
    return {directory for directory, there in zip(directories, answers, strict=True) if there}


async def _some(redis: Redis, prefix: str) -> AsyncIterator[list[str]]:
    """Keys with a tombstone, in no order, some at a time; one may come twice."""
    match = _glob_escape(prefix) + "*"
    cursor = 0
    while True:
        cursor, found = await redis.scan(cursor, match=match, count=_SCANNED)
        if found:
            yield [cast("str", name).removeprefix(prefix) for name in found]
        if cursor == 0:
            return


def _glob_escape(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
