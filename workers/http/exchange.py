"""One request on one connection: the lower half of aiohttp's client without the upper.

Owns writing a request's head and reading an answer's, over aiohttp's connector (pool, names, addresses, TLS)
and its response protocol (parser, framing, flow control). What `ClientSession.request` does on top (merging
cookies, proxies, redirects, traces, timers, a request and a response object each time) costs more than the
rest and none of it is wanted here: callers decide all that (`bench/origin_get.py` measures both). Of aiohttp
only what its own client calls on these two classes is used; the tests of the misbehaving origin pin it.

Origins are asked through it, and the store for objects. Must not know either.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import ClientRequest
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Bounds of an answer's head.
MAX_HEADERS = 256
MAX_HEADER_BYTES = 16 * 1024

#: Bytes that are buffered before reading stops.
READ_BUFFER_BYTES = 256 * 1024

#: Hosts whose prepared requests are kept; redirects may lead to any number of them.
_MAX_ROUTES = 1000

_BREAKS_A_HEAD = re.compile(r"[\r\n\0]")
#: An authority that needs no second look: name or IPv6 address, port.
_PLAIN_BASE = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class Exchange:
    """An answer whose body is still on its connection."""

    __slots__ = ("connection", "content", "headers", "status", "version")

    def __init__(self, connection: Any, message: Any, content: Any) -> None:
        #: Holds the connection until the body was read to its end, or the exchange is closed.
        self.connection = connection
        self.status: int = message.code
        self.version = message.version
        self.headers = message.headers
        self.content = content
        content.on_eof(self._ended)

    @property
    def content_length(self) -> int | None:
        """The announced length, where one is."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    def _ended(self) -> None:
        """All of the body came: the connection is free for somebody else."""
        connection = self.connection
        if connection is None or (connection.protocol is not None and connection.protocol.upgraded):
            return
        self.connection = None
        connection.release()

    def close(self) -> None:
        """End the connection, unless it was given back already; who still reads gets an error."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        connection.close()


class _Route:
    """What requests to one authority have in common."""

    __slots__ = ("common", "host", "request", "url")

    def __init__(self, base: str, fixed: Mapping[str, str], server_hostname: str | None) -> None:
        self.url = URL(base, encoded=True)
        if self.url.raw_user is not None or self.url.raw_password is not None:
            raise ValueError("user info in the URL")
        # Never sent: it tells the connector where to connect, and its key finds the pooled connections.
        self.request = ClientRequest(
            "GET", self.url, loop=asyncio.get_running_loop(), server_hostname=server_hostname
        )
        self.host = self.request.headers["Host"]
        self.common = _render(self.host, fixed, ())


class Exchanger:
    """Makes exchanges over one connector, which it closes in the end.

    Args:
        connector: the pool of connections.
        fixed: headers that go with every request.
        server_hostname: what TLS names instead of the host.
        connect_s: seconds for a connection; None where the connector's caller keeps the time.
        idle_s: seconds without a byte of the answer after which it fails; None likewise.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        fixed: Mapping[str, str],
        *,
        server_hostname: str | None = None,
        connect_s: float | None = None,
        idle_s: float | None = None,
    ) -> None:
        self.connector = connector
        self._fixed = dict(fixed)
        self._server_hostname = server_hostname
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=connect_s, sock_read=idle_s
        )
        self._routes: dict[str, _Route] = {}

    async def close(self) -> None:
        """End every connection."""
        self._routes.clear()
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
            self._routes.clear()
        route = self._routes[base] = _Route(base, self._fixed, self._server_hostname)
        return route

    async def send(
        self, method: str, route: _Route, target: str, headers: Sequence[tuple[str, str]] | None
    ) -> Exchange:
        """Send a request without a body and wait for the head of its answer; no retry.

        `headers` replace fixed ones of the same name.

        Raises:
            aiohttp.ClientError, HttpProcessingError, OSError: no connection, or no usable head.
            ValueError: a header that would break the request.
        """
        rest = _render(route.host, self._fixed, headers) if headers else route.common
        data = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "ignore") + rest
        connection = await self.connector.connect(route.request, [], self._timeout)
        try:
            protocol: Any = connection.protocol
            if protocol.should_close:
                # Bytes came while it lay in the pool: they would be taken for the answer to this request.
                raise aiohttp.ServerDisconnectedError("unasked bytes on a pooled connection")
            protocol.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=self._timeout.sock_read,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
            )
            transport = protocol.transport
            if transport is None or transport.is_closing():
                raise aiohttp.ClientOSError("the pooled connection was closed")
            transport.write(data)
            protocol.start_timeout()
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200 or message.code == 101:
                    return Exchange(connection, message, content)
        except BaseException:
            connection.close()
            raise


def _render(host: str, fixed: Mapping[str, str], headers: Sequence[tuple[str, str]] | None) -> bytes:
    """The head after its request line: `Host`, fixed headers, those of this request in their place."""
    merged = CIMultiDict({"Host": host, **fixed})
    replaced: set[str] = set()
    for name, value in headers or ():
        lower = name.lower()
        if lower in replaced:
            merged.add(name, value)
        else:
            replaced.add(lower)
            merged[name] = value
    for pair in merged.items():
        if _BREAKS_A_HEAD.search(pair[0]) or _BREAKS_A_HEAD.search(pair[1]):
            raise ValueError("a line break in a header")
    lines = "".join([f"{name}: {value}\r\n" for name, value in merged.items()])
    return f"{lines}\r\n".encode("utf-8", "ignore")
