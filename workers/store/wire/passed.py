"""An answer of the store that goes on to somebody else as it is.

Owns the three forms in which such an answer comes, and what becomes of its connection. Knows no operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from workers.store.wire.transport import TRANSLATED, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Bytes of a body read at once.
_READ_BYTES: Final = 256 * 1024


class PassedAnswer:
    """Status, headers and body as the store sent them; use as an async context.

    `opened` is an answer whose body is still on its connection; None when `body` is all of it.
    """

    __slots__ = ("_body", "_opened", "_what", "headers", "status")

    def __init__(
        self, status: int, headers: list[tuple[str, str]], *, what: str, body: bytes = b"", opened: Any = None
    ) -> None:
        self.status = status
        #: In the store's order and spelling.
        self.headers = headers
        self._body = body
        self._opened = opened
        self._what = what

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for given, value in self.headers if given.lower() == name), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            StoreUnavailable: it broke off.
        """
        if self._opened is None:
            if self._body:
                yield self._body
            return
        try:
            async for chunk in self._opened.content.iter_chunked(_READ_BYTES):
                yield chunk
        except TRANSLATED as error:
            raise unavailable(error, self._what) from error

    async def read(self) -> bytes:
        """The whole body; raises like `chunks`."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
