"""Pulls for misses that an origin turned out to have, minute by minute, in Redis.

Owns the record by which the finalize gate tells a miss that needed the origin from one that did not: a key
that somebody asks for and no origin has (what bots try) ends as absent and is not here, and neither is what a
scan moved. That nobody looked is not to be seen here, but in `workers.ledger.minutes` and the depth of the
queue.

Key schema (ledger database)::

    ns:needed:<bucket>:<hour>  hash  `n|<minute>|<rule>` -> pulls, `t|<minute>|<rule>` -> unix seconds of the
                                     last; hour and minute are unix seconds // 3600 and // 60; kept 8 days
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from workers.ledger.minutes import KEPT_MINUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededMinute:
    """What one minute needed of an origin for one rule."""

    rule: str
    #: Unix seconds // 60.
    minute: int
    pulls: int
    #: Unix seconds by which the last one had ended.
    last: int


def note(pipe: Any, namespace: str, bucket: str, pulls: Mapping[str, int], *, now: float) -> None:
    """Add to a pipeline: rule -> pulls that ended at `now` (Unix seconds), stored or too large to be."""
    minute = int(now) // 60
    name = f"{namespace}:needed:{bucket}:{minute // 60}"
    for rule, number in pulls.items():
        pipe.hincrby(name, f"n|{minute}|{rule}", number)
        pipe.hset(name, f"t|{minute}|{rule}", int(now) + 1)
    pipe.expire(name, KEPT_MINUTES * 60)


async def read(redis: Redis, namespace: str, bucket: str, *, now: float | None = None) -> list[NeededMinute]:
    """Everything on record of a bucket, oldest minute first."""
    last = int(time.time() if now is None else now) // 3600
    async with redis.pipeline(transaction=False) as pipe:
        for hour in range(last - KEPT_MINUTES // 60, last + 1):
            pipe.hgetall(f"{namespace}:needed:{bucket}:{hour}")
        rows = cast("list[dict[str, str]]", await pipe.execute())
    found: list[NeededMinute] = []
    for row in rows:
        for field, number in row.items():
            kind, minute, rule = field.split("|", 2)
            if kind == "n":
                end = int(row.get(f"t|{minute}|{rule}", (int(minute) + 1) * 60))
                found.append(NeededMinute(rule=rule, minute=int(minute), pulls=int(number), last=end))
    return sorted(found, key=lambda one: (one.minute, one.rule))
