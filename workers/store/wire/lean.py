"""Short HTTP/1.1 exchanges at a third of the cost of a general client.

Owns a pool of connections for requests whose body and answer are small enough to be held: PUTs of small
objects, HEADs, listings. Everything that streams goes through aiohttp (`transport`). Must not know S3.

An idempotent exchange that meets a connection which the server had closed meanwhile is repeated once on a
new one, as long as no byte of an answer came; callers recognise their own repeated write (SEMANTICS.md S11).
An answer needs a length or chunks: one that only ends with the connection is refused, because nobody knows
whether it is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import httptools
from multidict import CIMultiDict

from workers.http.fields import text_pairs
from workers.store.model import StoreAnswer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

#: Requests with longer bodies are not for this client.
MAX_REQUEST_BYTES: Final = 64 * 1024
#: The most that an answer may bring: a page of a listing has about 1 MiB.
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_MAX_HEADER_BYTES: Final = 64 * 1024
#: Seconds that a connection may lie unused before it is closed.
_KEEP_S: Final = 20.0
_WATCH_EVERY_S: Final = 0.5


class WireError(OSError):
    """The exchange broke: the connection ended, or what came is no HTTP."""


class _Stale(WireError):
    """A kept connection was found closed before any byte of the answer."""


class _Connection(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[StoreAnswer] | None = None
        #: Monotonic seconds when something last came or went.
        self.moved_at = 0.0
        self.used = False
        self.keep = True
        self._head = False
        self._begun = False
        #: Names and values of its headers in turn.
        self._fields: list[bytes] = []
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._headed = False
        self._body: list[bytes] = []
        #: Bytes of the answer so far.
        self._n_bytes = 0
        self._parser = httptools.HttpResponseParser(self)

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.moved_at = time.monotonic()
        if self.answer is None or self.answer.done():
            self.close()  # nobody asked
            return
        self._begun = True
        self._n_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(WireError(f"unreadable answer: {error}"))
            return
        # The parser keeps a line until it ends, however long that takes.
        if self._n_bytes > (_MAX_ANSWER_BYTES if self._headed else _MAX_HEADER_BYTES):
            self._fail(WireError("the answer is too long"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.keep = False
        self.transport = None
        if self.answer is None or self.answer.done():
            return
        text = str(exc) if exc is not None else "the store closed the connection"
        stale = self.used and not self._begun
        self.answer.set_exception(_Stale(text) if stale else WireError(text))

    # ------------------------------------------------------------------ httptools

    def on_message_begin(self) -> None:
        if self.answer is None or self.answer.done():
            self.keep = False  # an answer that nobody asked for must not become the next request's

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # else of a trailer, or of an answer that nobody asked for
            self._fields += (name, value)

    def on_headers_complete(self) -> None:
        self._headed = True
        self._headers = CIMultiDict(text_pairs(self._fields)[0])
        if self._head and self._parser.get_status_code() >= 200:
            # A HEAD announces a length and sends no body, which the parser cannot know.
            self._finish(keep=self._parser.should_keep_alive())
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        if self._head:
            self.keep = False  # a HEAD has none; the rest of it may still come

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._fields, self._headed = [], False  # 100 Continue and the like
            return
        self._finish(keep=self._parser.should_keep_alive())

    # ------------------------------------------------------------------ exchange

    def _finish(self, *, keep: bool) -> None:
        answer = self.answer
        if answer is None or answer.done():
            return
        self.keep = keep
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        answer.set_result(
            StoreAnswer(status=self._parser.get_status_code(), headers=self._headers, body=body),
        )

    def _fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)
        self.close()

    def expire(self) -> None:
        """Nothing moved for too long."""
        self._fail(TimeoutError("the store fell silent"))

    def close(self) -> None:
        """Cut the connection."""
        self.keep = False
        if self.transport is not None:
            self.transport.abort()

    def send(
        self, data: bytes, *, head: bool, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[StoreAnswer]:
        """Begin an exchange."""
        assert self.transport is not None
        self._head = head
        self._begun = False
        self._fields, self._headed = [], False
        self._body = []
        self._n_bytes = 0
        self.moved_at = time.monotonic()
        self.answer = loop.create_future()
        self.transport.write(data)
        return self.answer

    def send_rest(self, data: bytes) -> None:
        """The end of a request; a server that has answered without it gets no other one here."""
        if self.answer is not None and self.answer.done():
            self.close()
        elif self.transport is not None:
            self.moved_at = time.monotonic()
            self.transport.write(data)

    def forget(self) -> None:
        """Nobody waits for the answer any more."""
        if self.answer is not None and not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()
        self.close()


class Wire:
    """The pool; `open` before use, `close` after.

    Args:
        limit: connections at the same time.
        connect_s: seconds for a connection, TLS included.
        idle_s: seconds without any byte after which an exchange fails.
        tls: how servers are verified; None for plain HTTP.
    """

    def __init__(self, *, limit: int, connect_s: float, idle_s: float, tls: ssl.SSLContext | None) -> None:
        self._limit = limit
        #: Exchanges that are under way, and who waits until there are fewer, first come first served.
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._tls = tls
        self._free: dict[str, deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._watch: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Begin to watch over silent connections."""
        self._watch = self._loop.create_task(self._watching())

    async def close(self) -> None:
        """Cut every connection."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        for connection in [*self._busy, *(one for some in self._free.values() for one in some)]:
            connection.close()
        self._free.clear()
        await asyncio.sleep(0)  # the event loop closes the sockets in its next round

    async def exchange(
        self,
        method: str,
        host: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        last: Callable[[], Awaitable[None]] | None = None,
    ) -> StoreAnswer:
        """One request and its whole answer.

        Args:
            method: HTTP method.
            host: authority to connect to, `host[:port]`.
            target: path and query as they are sent.
            headers: all that is sent but the length.
            body: at most `MAX_REQUEST_BYTES`.
            last: awaited before the last byte of the request is sent, while the server has the others: until
                then there is nothing that it could do. What it raises breaks the request off. Awaited
                once more where the request is repeated.

        Raises:
            OSError, TimeoutError: no connection, a broken or a silent one.
        """
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if "content-length" not in headers and (body or method in {"PUT", "POST"}):
            lines.append(f"content-length: {len(body)}")
        data = "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body
        head = method == "HEAD"
        if self._under_way >= self._limit:
            await self._turn()
        else:
            self._under_way += 1
        try:
            connection = self._kept(host)
            if connection is not None:
                try:
                    return await self._once(connection, host, data, head=head, last=last)
                except _Stale:
                    # Closed by the server while it lay here: a new one is asked below. A POST may have begun
                    # something, so its sender must know.
                    if method == "POST":
                        raise
            return await self._once(await self._connect(host), host, data, head=head, last=last)
        finally:
            self._leave()

    async def _turn(self) -> None:
        """Wait for the place of an exchange that ends."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                self._leave()  # it was given the place, and goes: somebody else may have it
            raise

    def _leave(self) -> None:
        """Give the place to who waits longest, or to nobody."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._under_way -= 1

    async def _once(
        self,
        connection: _Connection,
        host: str,
        data: bytes,
        *,
        head: bool,
        last: Callable[[], Awaitable[None]] | None,
    ) -> StoreAnswer:
        self._busy.add(connection)
        try:
            if last is None:
                answer = await connection.send(data, head=head, loop=self._loop)
            else:
                coming = connection.send(data[:-1], head=head, loop=self._loop)
                await last()
                connection.send_rest(data[-1:])
                answer = await coming
        except BaseException:
            connection.forget()
            raise
        finally:
            self._busy.discard(connection)
            connection.used = True
        if connection.keep and connection.transport is not None:
            self._free.setdefault(host, deque()).append(connection)
        else:
            connection.close()
        return answer

    def _kept(self, host: str) -> _Connection | None:
        """The connection that was used last, if one is still good."""
        free = self._free.get(host)
        while free:
            connection = free.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self, host: str) -> _Connection:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name or not port.isdecimal():
            name, port = host, "443" if self._tls is not None else "80"
        async with asyncio.timeout(self._connect_s):
            _, connection = await self._loop.create_connection(
                _Connection,
                name.strip("[]"),
                int(port),
                ssl=self._tls,
            )
        return connection

    async def _watching(self) -> None:
        """Fail exchanges in which nothing moves, close connections that nobody uses."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            now = time.monotonic()
            for connection in list(self._busy):
                if now - connection.moved_at > self._idle_s:
                    connection.expire()
            for free in self._free.values():
                while free and now - free[0].moved_at > _KEEP_S:
                    free.popleft().close()
