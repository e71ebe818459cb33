"""Buckets that a configuration file brought while processes run: served by everybody without a restart.

Owns how a bucket's section reaches processes that were started without it. What a process was started with
stays as it is until its restart: only buckets are added, and those taken away again.

Key schema (ledger database)::

    ns:rules:buckets  hash  bucket -> JSON of its section; of its rules only whether the file has them
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from scheduler.config.settings import BucketSettings
from workers.background import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)


class PublishedBuckets:
    """What files brought, as Redis has it; `current` is the copy in memory, `changed` tells of a new one."""

    def __init__(self, redis: Redis, *, namespace: str) -> None:
        self._redis = redis
        self._name = f"{namespace}:rules:buckets"
        self._rows: dict[str, str] = {}
        #: A file's sections that wait for Redis, and whether it speaks for the whole installation.
        self._held: tuple[dict[str, BucketSettings], bool] | None = None
        self.current: dict[str, BucketSettings] = {}
        self.changed = asyncio.Event()

    async def publish(self, sections: Mapping[str, BucketSettings], *, withdraw: bool) -> None:
        """Tell all processes of a file's buckets; without Redis this one now, and the others when it is back.

        `withdraw`: the file speaks for the whole installation, buckets that it does not name are gone.
        """
        self._held = (dict(sections), withdraw)
        try:
            await self.refresh()
        except (RedisError, OSError):
            self._take({**({} if withdraw else self.current), **sections})

    async def refresh(self) -> None:
        """Read them again, after writing what waits.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if self._held is not None:
            await self._write(*self._held)
            self._held = None
        rows = cast("dict[str, str]", await self._redis.hgetall(self._name))
        if rows == self._rows:
            return
        found: dict[str, BucketSettings] = {}
        for bucket, row in rows.items():
            try:
                found[bucket] = BucketSettings.model_validate_json(row)
            except ValidationError as error:  # of another version of ours
                log.error("bucket_not_readable", bucket=bucket, problems=error.error_count())  # noqa: TRY400
        self._rows = rows
        self._take(found)

    async def _write(self, sections: Mapping[str, BucketSettings], withdraw: bool) -> None:
        rows: dict[Any, Any] = {bucket: _row(section) for bucket, section in sections.items()}
        there = cast("dict[str, str]", await self._redis.hgetall(self._name))
        gone = there.keys() - rows.keys() if withdraw else set[str]()
        async with self._redis.pipeline(transaction=True) as pipe:
            if rows:
                pipe.hset(self._name, mapping=rows)
            if gone:
                pipe.hdel(self._name, *gone)
            await pipe.execute()

    def _take(self, found: dict[str, BucketSettings]) -> None:
        if found != self.current:
            self.current = found
            self.changed.set()


def _row(section: BucketSettings) -> str:
    rules = None if section.rules is None else ()
    return orjson.dumps(section.model_copy(update={"rules": rules}).model_dump(mode="json")).decode()


class ServedBuckets(dict[str, BucketSettings]):
    """`buckets` of a running process's settings: those of its start, and those that were published since."""

    def __init__(self, own: Mapping[str, BucketSettings]) -> None:
        super().__init__(own)
        self._own = frozenset(own)
        #: Grows with every change, for whoever keeps something that was made of them.
        self.version = 0

    async def follow(self, published: PublishedBuckets, make: Callable[[str], Awaitable[None]]) -> None:
        """Take over what is published, as it comes; `make` sees that a new bucket is there. Never returns."""
        while True:
            await published.changed.wait()
            published.changed.clear()
            current = {name: one for name, one in published.current.items() if name not in self._own}
            for bucket in current.keys() - self.keys():
                await make(bucket)
                log.info("bucket_added", bucket=bucket, access=current[bucket].access)
            gone = self.keys() - current.keys() - self._own
            for bucket in gone:
                log.info("bucket_removed", bucket=bucket)
                del self[bucket]
            self.update(current)
            self.version += 1


@contextlib.asynccontextmanager
async def following_buckets(
    served: ServedBuckets, published: PublishedBuckets, make: Callable[[str], Awaitable[None]]
) -> AsyncIterator[None]:
    """Follow while the block runs."""
    task = asyncio.create_task(served.follow(published, make), name="buckets")
    try:
        yield
    finally:
        await end(task)
