"""An answer of the store that goes on to somebody else as it is.

Owns what of it goes on. Knows no operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.store.wire.streamed import Streamed

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from workers.http.answer import Exchange
    from workers.store.wire.streamed import Whole


class PassedAnswer(Streamed):
    """Status, headers and body as the store sent them; use as an async context."""

    __slots__ = ("headers", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: Exchange | ClientResponse | Whole,
        *,
        what: str,
    ) -> None:
        super().__init__(body, what)
        self.status = status
        #: In the store's order and spelling.
        self.headers = headers

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for given, value in self.headers if given.lower() == name), None)
