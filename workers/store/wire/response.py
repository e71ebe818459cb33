"""An object's bytes on their way out of the store.

Owns what one GET's answer says of its object. Knows neither signing nor retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.store.wire.answers import object_info
from workers.store.wire.streamed import Streamed
from workers.store.wire.transport import TRANSLATED, unavailable

if TYPE_CHECKING:
    from workers.http.answer import Exchange
    from workers.store.model import ObjectInfo


class StoreResponse(Streamed):
    """An answer to a GET whose body is read as it comes; use as an async context."""

    __slots__ = ("_exchange", "headers", "info", "status")

    def __init__(self, response: Exchange, key: str, what: str) -> None:
        super().__init__(response, what)
        self._exchange = response
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

    @property
    def is_whole(self) -> bool:
        """Whether all of the body is here, and its connection free for others: nobody has to read it."""
        return self._exchange.is_whole

    @property
    def at_end(self) -> bool:
        """Whether all of the body was read: `read_some` would give nothing more, and raise nothing."""
        return self._exchange.at_end

    async def read_some(self) -> bytes:
        """The next bytes of the body, empty at its end; raises like `chunks`, which costs more."""
        try:
            return await self._exchange.read()
        except TRANSLATED as error:
            raise unavailable(error, self._what) from error

    async def read(self) -> bytes:
        """The whole body; raises like `chunks`."""
        body = await self.read_some()
        while not self._exchange.at_end:
            more = await self.read_some()
            if not more:
                break
            body += more
        return body
