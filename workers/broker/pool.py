"""A pool whose kept connections are taken and given back without ado.

Owns the short way of redis-py's blocking pool: while a connection lies there and nobody waits for one,
taking it is a look whether it is still good. Theirs takes a lock, a condition, a timer and a retry loop for
that, and counts for an observer that nobody has asked for: more than the command itself. Whatever is not so
simple (a new connection, one that broke, somebody who waits) goes their way. Knows no command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class Pool(redis.asyncio.BlockingConnectionPool):
    """Bounded, as theirs; the connection that was used last is used next."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Who is on the long way to a connection: they are not passed over.
        self._coming = 0

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """A connected connection; waits where as many as may be are in use.

        Raises:
            redis.exceptions.ConnectionError: none came free in time, or the server cannot be reached.
        """
        free: list[Any] = self._available_connections
        if free and not self._coming and free[-1].is_connected and not free[-1].health_check_interval:
            connection: AbstractConnection = free.pop()
            self._in_use_connections.add(connection)
            if await self._is_good(connection):
                return connection
            self._in_use_connections.discard(connection)
            free.append(connection)
        self._coming += 1
        try:
            found: AbstractConnection = await super().get_connection()  # type: ignore[no-untyped-call]
        finally:
            self._coming -= 1
        return found

    @staticmethod
    async def _is_good(connection: AbstractConnection) -> bool:
        """Whether it has neither ended nor anything to read that belongs to nobody; looks, does not wait."""
        try:
            return not await connection.can_read()
        except (RedisError, OSError):
            return False

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back, good or not."""
        given: Any = connection  # redis-py types it in part
        if self._coming or given.should_reconnect() or connection not in self._in_use_connections:
            await super().release(connection)
            return
        self._in_use_connections.discard(connection)
        self._available_connections.append(connection)
