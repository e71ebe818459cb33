"""A success as the caller sees it: the head of the answer, and its bytes.

Owns the record. Where the bytes come from is the session's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from workers.answers import Headers
    from workers.origin.wire.body import Framing


@dataclass(slots=True, kw_only=True, eq=False)
class Fetched:
    """The head of a success, and its bytes.

    The status is 200, or 206 when a range was asked for. `headers` are those of the wire; `url` is the first
    URL asked on the host that answered (S7).
    """

    status: int
    headers: Headers
    #: Bytes of the body (of the object, for HEAD) where they are known beforehand.
    length: int | None
    framing: Framing
    content_range: str | None
    #: Host of the candidate.
    origin: str
    url: str
    digests_offered: bool
    _read: Callable[[Fetched], Awaitable[bytes]] = field(repr=False)

    @property
    def at_end(self) -> bool:
        """Never known before a read gives nothing: only then what was promised of the body was looked at."""
        return False

    def read_some(self) -> Awaitable[bytes]:
        """The next bytes of the body; empty at its end, which means that it is whole and as was promised.

        Raises:
            OriginTruncated, OriginTimeout: also after continuing by Range was tried (B6).
            DigestMismatch: the bytes are not what the origin, or a listing, promised.
        """
        return self._read(self)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The same to iterate over, which costs more."""
        while chunk := await self._read(self):
            yield chunk
