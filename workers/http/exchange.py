"""Requests over pooled connections: the lower half of a client, without the upper.

Owns the pool, routes (what requests to one authority have in common) and the heads of requests. Connections
are made by aiohttp's connector (names, addresses, TLS, and the guard over it), as `Connection`s of ours. What
a general client does on top (merging cookies, proxies, redirects, traces, timers, a request and a
response object each time) costs more than the rest and none of it is wanted here: callers decide all that
(`bench/origin_get.py` measures both).

Origins are asked through it, and the store for objects. Must not know either.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import aiohttp
from aiohttp import ClientRequest
from multidict import CIMultiDict
from yarl import URL

from workers.http.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from workers.http.answer import Exchange

#: Hosts whose prepared requests are kept; redirects may lead to any number of them.
_MAX_ROUTES = 1000
#: Seconds that a connection may lie unused, and between two looks at those that do, or that fell silent.
_KEEP_S: Final = 30.0
_LOOK_EVERY_S: Final = 1.0

_BREAKS_A_HEAD = re.compile(r"[\r\n\0]")
#: An authority that needs no second look: name or IPv6 address, port.
_PLAIN_BASE = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class _Route:
    """What requests to one authority have in common."""

    __slots__ = ("base", "common", "host", "idle", "request", "url")

    def __init__(self, base: str, fixed: Mapping[str, str], server_hostname: str | None) -> None:
        self.base = base
        self.url = URL(base, encoded=True)
        if self.url.raw_user is not None or self.url.raw_password is not None:
            raise ValueError("user info in the URL")
        # Never sent: it tells the connector where to connect, and its key finds the pooled connections.
        self.request = ClientRequest(
            "GET", self.url, loop=asyncio.get_running_loop(), server_hostname=server_hostname
        )
        self.host = self.request.headers["Host"]
        self.common = _render(self.host, fixed, ())
        #: Connections that nobody uses, the one used last at the end.
        self.idle: deque[Connection] = deque()


class Exchanger:
    """Makes exchanges over one connector, which it closes in the end.

    Args:
        connector: makes the connections; nobody else may use it.
        fixed: headers that go with every request.
        server_hostname: what TLS names instead of the host.
        connect_s: seconds for a connection; None where the connector's caller keeps the time.
        idle_s: seconds without a byte of the answer after which it fails; None likewise.
        limit: connections at most, used or not; 0: any number. Who finds none waits for one.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        fixed: Mapping[str, str],
        *,
        server_hostname: str | None = None,
        connect_s: float | None = None,
        idle_s: float | None = None,
        limit: int = 0,
    ) -> None:
        self.connector = connector
        self._limit = limit
        #: Connections that there are, or that are being made.
        self._open = 0
        #: Who waits until one is free, or may be made.
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        # The one name of aiohttp's that is not meant for us: what its connector makes as protocols.
        assert hasattr(connector, "_factory")
        connector._factory = partial(Connection, self._loop)  # type: ignore[arg-type,assignment]  # noqa: SLF001
        self._fixed = dict(fixed)
        self._server_hostname = server_hostname
        self._timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect_s)
        self._idle_s = idle_s
        self._routes: dict[str, _Route] = {}
        #: Connections with an exchange under way, where somebody must see that they fall silent.
        self._busy: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """End every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget_routes()
        await self.connector.close()

    def route(self, url: str) -> tuple[_Route, str]:
        """Where an absolute URL leads, and its path and query as they go on the wire; no fragment.

        Raises:
            ValueError: no http(s) URL, no host, user info, or what cannot stand in a request line.
        """
        slash = url.find("/", 8)
        base, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
        route = self._routes.get(base)
        if route is None or "#" in target:
            if not _PLAIN_BASE.fullmatch(base):
                whole = URL(url, encoded=True)
                if whole.scheme not in {"http", "https"} or not whole.raw_host:
                    raise ValueError("not an absolute http(s) URL")
                if whole.raw_user is not None or whole.raw_password is not None:
                    raise ValueError("user info in the URL")
                base, target = str(whole.origin()), whole.raw_path_qs
            target = target.partition("#")[0]
            route = self._routes.get(base) or self._prepare(base)
        if _BREAKS_A_HEAD.search(target):
            raise ValueError("a line break in the URL")
        return route, target

    def _prepare(self, base: str) -> _Route:
        if len(self._routes) >= _MAX_ROUTES:
            self._forget_routes()
        route = self._routes[base] = _Route(base, self._fixed, self._server_hostname)
        return route

    def _forget_routes(self) -> None:
        for route in self._routes.values():
            while route.idle:
                route.idle.pop().close()
        self._routes.clear()

    # ------------------------------------------------------------------ one request

    def render(
        self, method: str, route: _Route, target: str, headers: Sequence[tuple[str, str]] | None
    ) -> bytes:
        """A request without a body; `headers` replace fixed ones of the same name.

        Raises:
            ValueError: a header that would break the request.
        """
        rest = _render(route.host, self._fixed, headers) if headers else route.common
        return f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "ignore") + rest

    def take(self, route: _Route) -> Connection | None:
        """The connection that was used last, if one is still good."""
        idle = route.idle
        while idle:
            connection = idle.pop()
            if connection.is_connected():
                return connection
        return None

    async def connect(self, route: _Route) -> Connection:
        """A new connection; where there are as many as may be, the first that comes free.

        Raises:
            aiohttp.ClientError, OSError: there is none.
        """
        while self._limit and self._open >= self._limit:
            # An idle one to somewhere else gives way.
            other = next((one for one in self._routes.values() if one.idle), None)
            if other is not None:
                other.idle.popleft().close()
                continue
            await self._freed()
            connection = self.take(route)
            if connection is not None:
                return connection
        self._open += 1
        try:
            record = await self.connector.connect(route.request, [], self._timeout)
        except BaseException:
            self._closed()
            raise
        connection = cast("Connection", record.protocol)
        connection.record = record
        connection.free = partial(self._put_back, route)
        connection.gone = self._closed
        return connection

    async def _freed(self) -> None:
        """Wait until a connection has come back, or ended."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self._wake()  # it was told, and goes: somebody else may
            raise

    def _closed(self) -> None:
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def ask(self, connection: Connection, request: bytes, *, is_head: bool) -> Exchange:
        """Send a request and wait for the head of its answer.

        Raises:
            aiohttp.ClientError, HttpProcessingError, OSError: there is no usable one.
        """
        if self._idle_s is not None:
            self._busy.add(connection)
            if self._timer is None:
                self._look_later()
        try:
            return await connection.ask(request, is_head=is_head)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise

    async def send(
        self, method: str, route: _Route, target: str, headers: Sequence[tuple[str, str]] | None
    ) -> Exchange:
        """All of that on any connection; no retry."""
        request = self.render(method, route, target, headers)
        connection = self.take(route) or await self.connect(route)
        return await self.ask(connection, request, is_head=method == "HEAD")

    # ------------------------------------------------------------------ what is not used

    def _put_back(self, route: _Route, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._routes.get(route.base) is not route or self.connector.closed:
            connection.close()
            return
        route.idle.append(connection)
        if self._waiting:
            self._wake()
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """Fail exchanges in which nothing moves, close connections that nobody uses."""
        self._timer = None
        now = self._loop.time()
        idle_s = self._idle_s
        if idle_s is not None:
            for connection in list(self._busy):
                if not connection.is_connected():
                    self._busy.discard(connection)
                elif not connection.paused and now - connection.moved_at > idle_s:
                    self._busy.discard(connection)
                    connection.fail(aiohttp.SocketTimeoutError("no byte came for too long"))
        left = bool(self._busy)
        for route in self._routes.values():
            idle = route.idle
            while idle and (now - idle[0].moved_at > _KEEP_S or not idle[0].is_connected()):
                idle.popleft().close()
            left = left or bool(idle)
        if left:
            self._look_later()


def _render(host: str, fixed: Mapping[str, str], headers: Sequence[tuple[str, str]] | None) -> bytes:
    """The head after its request line: `Host`, fixed headers, those of this request in their place."""
    headers = headers or ()
    complete = not fixed and ("host", host) in headers  # there is nothing that they could replace
    merged: Collection[tuple[str, str]] = headers if complete else _merged(host, fixed, headers)
    if _BREAKS_A_HEAD.search("".join([f"{name}{value}" for name, value in merged])):
        raise ValueError("a line break in a header")
    lines = "".join([f"{name}: {value}\r\n" for name, value in merged])
    return f"{lines}\r\n".encode("utf-8", "ignore")


def _merged(
    host: str, fixed: Mapping[str, str], headers: Sequence[tuple[str, str]]
) -> Collection[tuple[str, str]]:
    merged = CIMultiDict({"Host": host, **fixed})
    replaced: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        if lower in replaced:
            merged.add(name, value)
        else:
            replaced.add(lower)
            merged[name] = value
    return merged.items()
