"""Bodies on their way to the store: chunks in memory or a range of a spool file, sent without being joined.

Owns how an aiohttp request body is written. A stalled store is noticed by progress, never by a total time.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from aiohttp.payload import Payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiohttp.abc import AbstractStreamWriter

#: Bytes handed to the transport at once: enough to be cheap, small enough not to be copied twice at length.
SLICE_BYTES = 256 * 1024

#: Bodies up to this length are joined with the headers into one write.
JOINED_BYTES = 64 * 1024


class _Replayable(Payload):
    """A body that may be sent again; subclasses cut it into slices, from its beginning each time."""

    def __init__(self, value: Any, n_bytes: int, *, idle_s: float) -> None:
        super().__init__(value, content_type="application/octet-stream")
        self._size = n_bytes
        self._idle_s = idle_s

    @abstractmethod
    def _slices(self) -> Iterator[bytes | memoryview]:
        """The body from its beginning."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._slices()).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 -- always the whole body
    ) -> None:
        """Write every slice; fails with TimeoutError when the store takes none for `idle_s` seconds."""
        for piece in self._slices():
            async with asyncio.timeout(self._idle_s):
                await writer.write(piece)


class ChunksBody(_Replayable):
    """Chunks as they came from the origin."""

    def _slices(self) -> Iterator[bytes | memoryview]:
        for chunk in self._value:
            if len(chunk) <= SLICE_BYTES:
                yield chunk
                continue
            view = memoryview(chunk)
            for start in range(0, len(view), SLICE_BYTES):
                yield view[start : start + SLICE_BYTES]


class FileBody(_Replayable):
    """The whole of a spool file, opened for binary reading."""

    def _slices(self) -> Iterator[bytes | memoryview]:
        self._value.seek(0)
        while piece := self._value.read(SLICE_BYTES):
            yield piece


def body_of(chunks: Sequence[bytes | memoryview], n_bytes: int, *, idle_s: float) -> Any:
    """The cheapest body for these chunks: bytes when they are few, else a payload that does not join them."""
    if n_bytes <= JOINED_BYTES:
        if len(chunks) == 1 and isinstance(chunks[0], bytes):
            return chunks[0]
        return b"".join(chunks)
    return ChunksBody(chunks, n_bytes, idle_s=idle_s)
