"""Connections that leave a server which is no longer the one that is written to.

Owns what a demoted server's answers mean (READONLY, MASTERDOWN: this connection ends, so that the next one is
opened to wherever the name or the sentinels lead by then), and that a server which sentinels name is asked
for its role before it is believed. Knows no commands of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis.asyncio.connection as for_asyncio
from redis import connection as for_threads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError

if TYPE_CHECKING:
    from workers.broker.sentinels import AsyncFinder, Finder

_NOT_WRITTEN_TO: Final = (ReadOnlyError, MasterDownError)


class Demoted(RedisConnectionError):
    """The server is a replica (by now)."""


class _AsyncLeaves(for_asyncio.AbstractConnection):
    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except _NOT_WRITTEN_TO as error:
            await self.disconnect(nowait=True)
            raise Demoted(f"the server is a replica: {error}") from error


class AsyncTcp(_AsyncLeaves, for_asyncio.Connection):
    """Plain TCP."""


class AsyncTls(_AsyncLeaves, for_asyncio.SSLConnection):
    """TLS over TCP."""


class AsyncUnix(_AsyncLeaves, for_asyncio.UnixDomainSocketConnection):
    """A socket of this machine."""


class _AsyncFound(for_asyncio.Connection):
    """To wherever the finder says at that moment."""

    def __init__(self, *, finder: AsyncFinder, **kwargs: Any) -> None:
        self._finder = finder
        super().__init__(redis_connect_func=_async_as_master, **kwargs)

    async def _connect(self) -> None:
        self.host, self.port = await self._finder.master()
        await super()._connect()  # type: ignore[no-untyped-call]


class AsyncFoundTcp(_AsyncFound, AsyncTcp):
    """Plain TCP to the server that the sentinels name."""


class AsyncFoundTls(_AsyncFound, AsyncTls):
    """TLS to the server that the sentinels name."""


async def _async_as_master(connection: for_asyncio.AbstractConnection) -> None:
    await connection.on_connect()
    await connection.send_command("ROLE")
    _must_be_master(connection, await connection.read_response())


class _Leaves(for_threads.AbstractConnection):
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except _NOT_WRITTEN_TO as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise Demoted(f"the server is a replica: {error}") from error


class Tcp(_Leaves, for_threads.Connection):
    """Plain TCP."""


class Tls(_Leaves, for_threads.SSLConnection):
    """TLS over TCP."""


class Unix(_Leaves, for_threads.UnixDomainSocketConnection):
    """A socket of this machine."""


class _Found(for_threads.Connection):
    """To wherever the finder says at that moment."""

    def __init__(self, *, finder: Finder, **kwargs: Any) -> None:
        self._finder = finder
        super().__init__(redis_connect_func=_as_master, **kwargs)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self.host, self.port = self._finder.master()
        return super()._connect()  # type: ignore[no-untyped-call]


class FoundTcp(_Found, Tcp):
    """Plain TCP to the server that the sentinels name."""


class FoundTls(_Found, Tls):
    """TLS to the server that the sentinels name."""


def _as_master(connection: Any) -> None:
    connection.on_connect()
    connection.send_command("ROLE")
    _must_be_master(connection, connection.read_response())


def _must_be_master(connection: Any, answer: Any) -> None:
    role = answer[0].decode() if isinstance(answer[0], bytes) else answer[0]
    if role != "master":
        raise Demoted(f"the sentinels name {connection.host}:{connection.port}, which is a {role}")
