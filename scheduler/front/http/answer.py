"""Sending an answer: whole, streamed, or cut.

Owns the client's side of everything: the only exceptions that may come from here are `ClientGone` and
`ClientStalled`, and nobody but the request's own task ever sees them (STYLE.md habit 5).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from scheduler.front.http import s3_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from scheduler.front.http.request import Request

    Send = Callable[[Any], Awaitable[None]]
    RawHeaders = list[tuple[bytes, bytes]]


class ClientLost(Exception):
    """The client's side ended before its answer did; never an `OriginError` or a `StoreError`."""


class ClientGone(ClientLost):
    """The client closed the connection."""


class ClientStalled(ClientLost):
    """The client took nothing for too long."""


class Interrupted(Exception):
    """The source ended before the answer did, and the connection was cut; the cause was dealt with."""


class Source(Protocol):
    """A body that is read piece by piece."""

    @property
    def at_end(self) -> bool:
        """Whether all of it was read, and nothing can go wrong with it any more; False where unknown."""

    def read_some(self) -> Awaitable[bytes]:
        """The next bytes; empty at the end."""


class _Iterated:
    """What an iterator gives, as a source. A generator costs a multiple of what a plain source does."""

    __slots__ = ("_chunks",)

    #: Only the iterator's end tells.
    at_end = False

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def read_some(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


class Answer:
    """The one answer of one request."""

    __slots__ = (
        "_extra",
        "_head_only",
        "_send",
        "_stall_s",
        "bytes_sent",
        "replaced",
        "request",
        "started",
        "started_at",
        "status",
        "until_start",
    )

    def __init__(self, request: Request, send: Send, *, stall_s: float) -> None:
        self.request = request
        self._send = send
        self._stall_s = stall_s
        self._head_only = request.method == "HEAD"
        self._extra = s3_error.request_id_headers(request.id)
        #: Whether the status line is out: from then on a failure can only cut the connection.
        self.started = False
        #: Headers that replace those of an object's answer (`response-*` of an S3 client).
        self.replaced: RawHeaders = []
        #: Called with the status line: from then on nobody gives the answer up for its slow beginning.
        self.until_start: Callable[[], None] | None = None
        #: When it went out, by `time.perf_counter`.
        self.started_at = 0.0
        self.status = 0
        self.bytes_sent = 0

    async def error(
        self,
        error: s3_error.S3Error,
        *,
        resource: str,
        message: str = "",
        headers: Iterable[tuple[bytes, bytes]] = (),
        details: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Send an error document; only its head for HEAD."""
        status, head, body = s3_error.error_answer(
            error,
            resource=resource,
            request_id=self.request.id,
            message=message,
            headers=headers,
            details=details,
        )
        await self._start(status, head)
        await self._body(b"" if self._head_only else body, more=False)

    async def whole(
        self, status: int, headers: RawHeaders, body: bytes = b"", *, length: int | None = None
    ) -> None:
        """Send a complete answer. `length` is the promised length where it differs from the body's (HEAD)."""
        head = [*headers, *self._extra]
        if status not in {204, 304}:
            head.append((b"content-length", b"%d" % (len(body) if length is None else length)))
        await self._start(status, head)
        await self._body(b"" if self._head_only else body, more=False)

    async def head(self, status: int, headers: RawHeaders, *, length: int | None) -> None:
        """Send the head of an answer to HEAD; without `length` nothing is said of it."""
        head = [*headers, *self._extra]
        if length is not None:
            head.append((b"content-length", b"%d" % length))
        await self._start(status, head)
        await self._body(b"", more=False)

    async def given(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send an answer that is complete with its length and request id."""
        await self._start(status, headers)
        await self._body(b"" if self._head_only else body, more=False)

    async def stream(
        self, status: int, headers: RawHeaders, chunks: AsyncIterator[bytes], *, length: int | None
    ) -> None:
        """As `pour`, of what an iterator gives."""
        await self.pour(status, headers, _Iterated(chunks), length=length)

    async def pour(self, status: int, headers: RawHeaders, source: Source, *, length: int | None) -> None:
        """Send a body as it comes; without `length` it is chunked.

        Whatever `source` raises passes through after the connection was cut: the client never takes what it
        has for the whole (A12). A body that is shorter or longer than `length` is cut too.

        Raises:
            ClientLost: the client's side ended; the source is not to blame.
        """
        head = [*headers, *self._extra]
        if length is not None:
            head.append((b"content-length", b"%d" % length))
        await self._start(status, head)
        left = length
        try:
            while chunk := await source.read_some():
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise BodyLengthWrong
                if source.at_end and not left:
                    await self._body(chunk, more=False)
                    return
                await self._body(chunk, more=True)
            if left:
                raise BodyLengthWrong
        except BaseException:
            self.request.connection.abort()
            raise
        await self._body(b"", more=False)

    def cut(self) -> None:
        """End the connection at once, whatever was sent."""
        self.request.connection.abort()

    async def _start(self, status: int, headers: RawHeaders) -> None:
        self.status = status
        self.started = True
        self.started_at = time.perf_counter()
        if self.until_start is not None:
            self.until_start()
        if self.replaced and status in {200, 206}:
            names = {name for name, _ in self.replaced}
            if not any(value.startswith(b"multipart/byteranges") for _, value in headers):
                headers = [*(pair for pair in headers if pair[0] not in names), *self.replaced]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        connection = self.request.connection
        if connection.gone:
            raise ClientGone
        message = {"type": "http.response.body", "body": body, "more_body": more}
        if connection.write_paused:
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._send(message)
            except TimeoutError as error:
                raise ClientStalled from error
        else:
            await self._send(message)
        self.bytes_sent += len(body)


class BodyLengthWrong(Exception):
    """The source gave fewer or more bytes than it had promised."""
