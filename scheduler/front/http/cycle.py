"""One request of a connection and its answer: how the answer becomes bytes.

Owns the head and the framing of answers, and when they are written. A head waits for the bytes that come with
it until the loop's next round: most answers are then one write to the kernel instead of two, and the client
wakes once. Knows no bucket and no rule; what makes a request acceptable is `protocol`'s.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from typing import TYPE_CHECKING, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import (
        ASGI3Application,
        ASGISendEvent,
        HTTPResponseBodyEvent,
        HTTPResponseStartEvent,
    )

#: Headers that say how the body ends, or the connection.
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
#: What may not stand in the names of a head, and in its values.
_BAD_NAME = re.compile(rb'[\x00-\x1f\x7f()<>@,;:\[\]={} \t\\"]')
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: `struct linger`: on, zero seconds.
_LINGER_NOT = struct.pack("ii", 1, 0)


class Connection(Protocol):
    """The client's connection, as far as an answer's bytes have to know it."""

    loop: asyncio.AbstractEventLoop

    def end_unread(self) -> None:
        """End the connection after an answer that came before the whole body of its request."""


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a TCP reset; what the kernel has not sent yet is dropped."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


class Cycle(RequestResponseCycle):
    """One request and its answer. A body without a length is delimited by the close for HTTP/1.0 clients."""

    #: The head of the answer while it waits for what comes with it.
    _head = b""
    #: The body ends with the connection.
    _until_close = False

    async def send(self, message: ASGISendEvent) -> None:
        """Take one message of the application's answer.

        Raises:
            RuntimeError: it comes out of turn, breaks HTTP, or the body is not as long as the head promised.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        wanted = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != wanted or self.response_complete:
            raise RuntimeError(f"{message['type']} where {wanted} is due")
        if self.response_started:
            self._send_body(message)  # type: ignore[arg-type]  # its type was looked at
        else:
            self._send_head(message)  # type: ignore[arg-type]

    def _send_head(self, message: HTTPResponseStartEvent) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        headers = [*self.default_headers, *message.get("headers", ())]
        names = b"".join([name for name, _ in headers])
        if _BAD_NAME.search(names):
            raise RuntimeError("a name in the head of an answer is no header's")
        if _BAD_VALUE.search(b"".join([value for _, value in headers])):
            raise RuntimeError("a value in the head of an answer breaks it")
        closes = False
        are_lower = names == names.lower()
        lines = [STATUS_LINE[status]]
        for given, value in headers:
            name = given if are_lower else given.lower()
            if name in _FRAMING:
                if name == b"content-length" and self.chunked_encoding is None:
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                elif name == b"transfer-encoding" and value.lower() == b"chunked":
                    self.expected_content_length = 0
                    self.chunked_encoding = True
                elif name == b"connection" and b"close" in [one.strip() for one in value.lower().split(b",")]:
                    self.keep_alive = False
                    closes = True
            lines += (name, b": ", value, b"\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in {204, 304}:
            if self.scope["http_version"] == "1.0":
                self.chunked_encoding = False
                self._until_close = True
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        self._connection.loop.call_soon(self._flush)

    def _send_body(self, message: HTTPResponseBodyEvent) -> None:
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self._write(b"")
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(data if more else data + b"0\r\n\r\n")
        else:
            if not self._until_close:
                if len(body) > self.expected_content_length:
                    raise RuntimeError("the body of an answer is longer than its head says")
                self.expected_content_length -= len(body)
            self._write(body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("the body of an answer is shorter than its head says")
        self.response_complete = True
        self.message_event.set()
        # Closing at once would reset what the client still sends, and the answer with it.
        unread = self.more_body and not self.keep_alive
        if not self.keep_alive and not unread:
            self.transport.close()
        self.on_response()
        if unread:
            self._connection.end_unread()

    def _write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head and data:
            self.transport.writelines([head, data])
        elif head or data:
            self.transport.write(head or data)

    def _flush(self) -> None:
        """Nothing came with the head: it goes alone."""
        if self._head and not self.transport.is_closing():
            self._write(b"")

    @property
    def _connection(self) -> Connection:
        return cast("Connection", self.scope["extensions"]["ferryman.connection"])

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application; an answer that it leaves unfinished ends with a reset, never cleanly."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            if not self.response_complete and not self.transport.is_closing():
                reset(self.transport)
            self.on_response = lambda: None
