"""The body of a store's answer that is still on its connection.

Owns how it is read, and what becomes of the connection. Knows neither what the answer means nor who reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from workers.store.wire.transport import TRANSLATED, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

    from workers.http.answer import Exchange

#: Bytes of a body read at once.
_READ_BYTES: Final = 256 * 1024


class Whole:
    """A body that is here already, in the form of one that is still to come."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def content(self) -> Self:
        return self

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body

    def close(self) -> None:
        """There is no connection any more."""


class Streamed:
    """An answer whose body is read as it comes; use as an async context.

    `what` was asked, for errors.
    """

    __slots__ = ("_opened", "_what")

    def __init__(self, opened: Exchange | ClientResponse | Whole, what: str) -> None:
        self._opened = opened
        self._what = what

    @property
    def is_here(self) -> bool:
        """Whether the whole body was read already."""
        return isinstance(self._opened, Whole)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            StoreUnavailable: it broke off; a clean end means that it is whole.
        """
        try:
            async for chunk in self._opened.content.iter_chunked(_READ_BYTES):
                yield chunk
        except TRANSLATED as error:
            raise unavailable(error, self._what) from error

    async def read(self) -> bytes:
        """The whole body; raises like `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Leave it: a body that was not read to its end costs the connection, not the time to read it."""
        self._opened.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def ends_visibly(response: Exchange | ClientResponse) -> bool:
    """Whether a body's end can be told from a connection that broke."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
