"""What was written is held by replicas, too, before anybody is told that it is kept (`broker.min_replicas`).

Replication is asynchronous: without this a fail-over takes what the replica had not received, always the last
of it, never something in between. Owns the WAIT, which counts for the writes of one connection only.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from workers.settings import BrokerSettings


class _Pinned:
    """A pool as far as a client asks one, of a single connection that somebody else has taken."""

    def __init__(self, pool: Any, connection: Any) -> None:
        self._pool = pool
        self._connection = connection

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        return self._connection

    async def release(self, connection: Any) -> None:
        """It is given back at the end of the block."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


class ReplicasMissing(RedisConnectionError):
    """It was written, and too few replicas have it; whoever is told so writes it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """How many there must be, and how long they are waited for; none: replication is left to itself."""

    number: int = 0
    timeout_s: float = 1.0

    @classmethod
    def of(cls, settings: BrokerSettings) -> Self:
        """As configured."""
        return cls(number=settings.min_replicas, timeout_s=settings.min_replicas_timeout_s)

    @contextlib.asynccontextmanager
    async def holding(self, redis: Redis) -> AsyncIterator[Redis]:
        """The client to write with; at the end of the block enough replicas have what it wrote.

        Raises:
            ReplicasMissing: they have not, in time.
        """
        if self.number == 0:
            yield redis
            return
        pool = redis.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            # Never another connection, and no new one: on that the WAIT would count for nothing.
            pinned = AsyncRedis(connection_pool=cast("Any", _Pinned(pool, connection)))
            yield pinned
            held = int(await pinned.wait(self.number, int(self.timeout_s * 1000)))
        finally:
            await pool.release(connection)
        if held < self.number:
            raise ReplicasMissing(f"{held} of {self.number} replicas have it after {self.timeout_s:g} s")
