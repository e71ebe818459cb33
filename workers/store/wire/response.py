"""An object's bytes on their way out of the store.

Owns the reading of one GET's answer and what becomes of its connection. Knows neither signing nor retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from workers.store.wire.answers import object_info
from workers.store.wire.transport import TRANSLATED, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

    from workers.http.exchange import Exchange
    from workers.store.model import ObjectInfo

#: Bytes of a body read at once.
_READ_BYTES: Final = 256 * 1024


class StoreResponse:
    """An answer to a GET whose body is read as it comes; use as an async context."""

    __slots__ = ("_exchange", "_what", "headers", "info", "status")

    def __init__(self, response: Exchange, key: str, what: str) -> None:
        self._exchange = response
        self._what = what
        #: One of 200, 206, 304, 404, 412, 416. A range that comes as 200 would pass for the whole.
        self.status = (
            206 if response.status == 200 and "Content-Range" in response.headers else response.status
        )
        #: As the store sent them, order kept.
        self.headers: list[tuple[str, str]] = list(response.headers.items())
        #: The object's record; None unless the status is 200, 206 or 304.
        self.info: ObjectInfo | None = (
            object_info(key, self.headers) if self.status in {200, 206, 304} else None
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            StoreUnavailable: it broke off; a clean end means that it is whole.
        """
        try:
            async for chunk in self._exchange.content.iter_chunked(_READ_BYTES):
                yield chunk
        except TRANSLATED as error:
            raise unavailable(error, self._what) from error

    async def read(self) -> bytes:
        """The whole body; raises like `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # A body that was not read to its end costs the connection, not the time to read it.
        self._exchange.close()


def ends_visibly(response: Exchange | ClientResponse) -> bool:
    """Whether a body's end can be told from a connection that broke."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
