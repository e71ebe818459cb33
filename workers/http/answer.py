"""An answer while its body comes: what is here, what is waited for, and how it ended.

Owns the buffer between a connection and who reads. Must not know how bytes come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, Self

import aiohttp
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Bytes of a body that are held before reading stops, and below which it goes on.
PAUSE_BYTES: Final = 512 * 1024
RESUME_BYTES: Final = 256 * 1024


class Source(Protocol):
    """The connection that an answer comes over."""

    transport: asyncio.Transport | None
    #: Nothing is read from it just now.
    paused: bool

    def resume(self) -> None:
        """Read on."""

    def close(self) -> None:
        """End it."""


class Exchange:
    """An answer: its head, and its body as it comes. Closing it ends the connection, unless all was read."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_ended",
        "_error",
        "_held",
        "_waiter",
        "ascii",
        "headers",
        "pairs",
        "status",
        "version",
    )

    def __init__(
        self, connection: Source, status: int, version: str, pairs: tuple[tuple[str, str], ...]
    ) -> None:
        self.status = status
        self.version = version
        #: As they came; bytes that are no UTF-8 are lone surrogates.
        self.pairs = pairs
        self.headers: CIMultiDict[str] = CIMultiDict(pairs)
        #: No header has other characters.
        self.ascii = True
        #: The connection that it comes over; None when all of it came.
        self._connection: Source | None = connection
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content(self) -> Self:
        """The body; as aiohttp has it, so that both can be read alike."""
        return self

    @property
    def content_length(self) -> int | None:
        """The announced length, where one is."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    @property
    def is_whole(self) -> bool:
        """Whether all of the body is here: reading waits for nothing, and the connection is free."""
        return self._ended

    @property
    def at_end(self) -> bool:
        """Whether all of the body was read: `read` would give nothing more, and raise nothing."""
        return self._ended and not self._chunks

    @property
    def transport(self) -> asyncio.Transport | None:
        """What it comes over, while it does."""
        return self._connection.transport if self._connection is not None else None

    @property
    def was_reset(self) -> bool:
        """Whether a body that the end of its connection ends was ended by a reset."""
        return self._ended and self._error is not None

    async def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            aiohttp.ClientError, HttpProcessingError, TimeoutError: it broke.
        """
        if not self._chunks and not self._ended:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._chunks:
            chunk = self._chunks.popleft()
            self._held -= len(chunk)
            connection = self._connection
            if connection is not None and connection.paused and self._held < RESUME_BYTES:
                connection.resume()
            return chunk
        if self._error is not None and not self._ended:
            raise self._error
        return b""

    async def iter_chunked(self, n_bytes: int) -> AsyncIterator[bytes]:
        """The body, no piece longer than so many bytes; raises like `read`."""
        while chunk := await self.read():
            if len(chunk) <= n_bytes:
                yield chunk
                continue
            for start in range(0, len(chunk), n_bytes):
                yield chunk[start : start + n_bytes]

    def close(self) -> None:
        """End the connection, unless all of the body came; who still reads gets an error."""
        connection = self._connection
        if connection is not None:
            self._chunks.clear()
            self.fail(aiohttp.ClientConnectionError("Connection closed"))
            connection.close()

    # ------------------------------------------------------------------ told by its connection

    def feed(self, data: bytes) -> bool:
        """More of the body came; whether enough is held for now."""
        self._chunks.append(data)
        self._held += len(data)
        if self._waiter is not None:
            self._wake()
        return self._held >= PAUSE_BYTES

    def end(self, error: BaseException | None = None) -> None:
        """That was all of it; `error` is how the connection that ends it was ended."""
        self._connection = None
        self._error = error
        self._ended = True
        if self._waiter is not None:
            self._wake()

    def fail(self, error: BaseException) -> None:
        """It broke: what came is given out, then this."""
        self._connection = None
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
