"""One connection to a server: a request goes out, and its answer is read.

Owns reading an answer's head (by llhttp) and finding the end of its body: bytes of a known length do not pass
the parser, chunks do. What ended badly is told to whoever waits for the head or the body. Must not know
pools, origins or stores; how a connection is made is aiohttp's business, as whose protocol this stands
(`Exchanger`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import httptools
from aiohttp.http_exceptions import HttpProcessingError

from workers.http.answer import Exchange
from workers.http.fields import text_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bounds of an answer's first line, and of all of its head; those of its fields are in `fields`.
MAX_LINE_BYTES: Final = 16 * 1024
MAX_HEAD_BYTES: Final = 256 * 1024

#: Answers that never have a body.
_BODYLESS: Final = frozenset({204, 304})
#: What `_left` says of a body that only the end of the connection ends.
_UNTIL_CLOSE: Final = -1


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `free` is called when one ended and another may follow.

    To aiohttp's connector, which made it, it is a protocol of its own that is always in use.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        #: aiohttp's record of this connection, to be closed with it.
        self.record: Any = None
        self.free: Callable[[Connection], None] | None = None
        #: Called once, when the connection has ended.
        self.gone: Callable[[], None] | None = None
        #: Loop time of its last byte, or of its last use.
        self.moved_at = 0.0
        self.paused = False
        self._closed: asyncio.Future[None] | None = None
        self._lost = False
        self._parser: httptools.HttpResponseParser | None = None
        self._head: asyncio.Future[Exchange] | None = None
        self._exchange: Exchange | None = None
        #: Names and values in turn; None when the head is complete.
        self._fields: list[bytes] | None = None
        #: Bytes of the head so far, and of its first line.
        self._head_bytes = self._line_bytes = 0
        self._is_head = False
        self._keep = False
        #: Bytes of a body that are still to come past the parser; 0: the parser reads.
        self._left = 0
        #: The same while the parser reads; None where it finds the end.
        self._expected: int | None = None
        #: All of the body came.
        self._complete = False
        #: A second answer came behind it, or more than belongs to it: which bytes are its own is not known.
        self._beyond = self._excess = False

    # ------------------------------------------------------------------ as aiohttp's connector sees it

    @property
    def should_close(self) -> bool:
        """Nothing ever goes back to the connector's own pool."""
        return True

    @property
    def closed(self) -> asyncio.Future[None] | None:
        """Done when the connection has ended; None when it had before."""
        if self._closed is None and not self._lost:
            self._closed = self._loop.create_future()
        return self._closed

    def is_connected(self) -> bool:
        """Whether a request can be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """End it at once."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()
        self._forget()

    def close(self) -> None:
        """End it; harmless when repeated."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.close()
        self._forget()

    def _forget(self) -> None:
        record, self.record = self.record, None
        if record is not None:
            record.close()
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.moved_at = self._loop.time()
        left = self._left
        if left:
            self._take(data, left)
            return
        parser = self._parser
        if parser is None or (self._head is None and self._exchange is None):
            self.close()  # nobody asked
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep = False  # to another protocol, which nobody here speaks
        except httptools.HttpParserError as error:
            self._broken(str(error.__context__ or error))
            return
        exchange = self._exchange
        if exchange is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._broken("the head of the answer is too long")
            return
        if self._excess:
            self._broken("more bytes than belong to the answer")
            return
        head = self._head
        if head is not None:
            self._head = None
            if not head.done():
                head.set_result(exchange)
        if self._complete:
            self._done(exchange)
        elif self._expected is not None:
            self._left, self._parser = self._expected, None

    def _take(self, data: bytes, left: int) -> None:
        """Bytes of a body whose length is known, or that lasts until the connection ends."""
        exchange = self._exchange
        if exchange is None:
            self.close()
            return
        if left != _UNTIL_CLOSE:
            n_bytes = len(data)
            if n_bytes > left:
                rest = data[left:].lstrip(b"\r\n")
                if rest and not rest.startswith(b"HTTP/"):
                    self._broken("more bytes than belong to the answer")
                    return
                self._keep = False
                data, n_bytes = data[:left], left
            self._left = left = left - n_bytes
        if exchange.feed(data) and left:
            self._pause()
        if not left:
            self._done(exchange)

    def _pause(self) -> None:
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.transport = None
        self._forget()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        reset = aiohttp.ClientOSError(*exc.args) if isinstance(exc, OSError) else exc
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(reset or aiohttp.ServerDisconnectedError())
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._left == _UNTIL_CLOSE:
            exchange.end(reset)
        else:
            exchange.fail(aiohttp.ClientPayloadError("the connection ended before the body"))

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self.moved_at = self._loop.time()
        if self.transport is not None:
            self.transport.resume_reading()

    # ------------------------------------------------------------------ httptools

    def on_message_begin(self) -> None:
        if self._complete:
            self._beyond, self._keep = True, False  # an answer that nobody asked for

    def on_status(self, reason: bytes) -> None:
        self._line_bytes += len(reason)
        if self._line_bytes > MAX_LINE_BYTES:
            raise ValueError("a status line that is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._fields
        if fields is not None:  # else of a trailer, or of an answer that nobody asked for
            fields += (name, value)

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        if parser is None or fields is None:
            return
        status = parser.get_status_code()
        if status < 200 and status != 101:
            return
        self._fields = None
        pairs, is_ascii = text_pairs(fields)
        self._exchange = exchange = Exchange(self, status, parser.get_http_version(), pairs)
        exchange.ascii = is_ascii
        self._keep = parser.should_keep_alive()
        headers = exchange.headers
        if self._is_head or status in _BODYLESS:
            self._parser = None  # it may wait for a body that does not come
            self._complete = True
        elif "Transfer-Encoding" not in headers:
            length = headers.get("Content-Length")
            self._expected = _UNTIL_CLOSE if length is None else int(length)

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._complete:
            self._excess = self._excess or not self._beyond  # where none belongs
            return
        if self._expected and self._expected != _UNTIL_CLOSE:
            self._expected -= len(body)
        if exchange.feed(body):
            self._pause()

    def on_message_complete(self) -> None:
        if self._exchange is None:
            self._fields = []  # 100 Continue and the like
        else:
            self._complete = True
            if self._expected is None:
                self._parser = None  # a trailer may have left something in it

    # ------------------------------------------------------------------ exchange

    def ask(self, request: bytes, *, is_head: bool) -> asyncio.Future[Exchange]:
        """Send a request without a body; the head of its answer.

        Raises:
            aiohttp.ClientOSError: the connection has ended meanwhile.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientOSError("the pooled connection was closed")
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
            self._parser.set_dangerous_leniencies(
                lenient_headers=True,
                lenient_optional_cr_before_lf=True,
                lenient_spaces_after_chunk_size=True,
            )
        self._fields = []
        self._head_bytes = self._line_bytes = 0
        self._complete = self._beyond = self._excess = False
        self._is_head = is_head
        self._expected = None
        self._left = 0
        self.moved_at = self._loop.time()
        self._head = head = self._loop.create_future()
        transport.write(request)
        return head

    def _done(self, exchange: Exchange) -> None:
        """All of it came: the connection is free for somebody else."""
        self._exchange = None
        exchange.end()
        if self.paused:
            self.resume()
        if self._keep and self.free is not None and self.is_connected():
            self.free(self)
        else:
            self.close()

    def _broken(self, why: str) -> None:
        """What came is no HTTP."""
        self.fail(HttpProcessingError(message=why))

    def fail(self, error: BaseException) -> None:
        """End it, because of this."""
        head, self._head = self._head, None
        exchange, self._exchange = self._exchange, None
        if head is not None and not head.done():
            head.set_exception(error)
        if exchange is not None:
            exchange.fail(error)
        self.close()
