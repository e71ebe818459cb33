"""The final answer of an origin while its connection is held: head, guarded reads, and letting go.

Owns reading raw bytes with the idle deadline, and deciding between giving a connection back and ending it.
What ends a body, and whether it is whole, is decided in `stream`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.deadlines import Wait
from workers.origin.wire.body import BODY_ERRORS

if TYPE_CHECKING:
    from workers.answers import Headers
    from workers.deadlines import Deadlines
    from workers.http.answer import Exchange

#: Bodies of redirects and errors up to this size are read, so that the connection can be used again.
MAX_DRAIN_BYTES = 64 * 1024

#: Seconds that may be spent on that.
DRAIN_S = 1.0


@dataclass(slots=True, kw_only=True)
class Answer:
    """The head of the final answer, and the connection that still holds its body."""

    status: int
    headers: Headers
    #: Final URL, after redirects, and how many there were.
    url: str
    hops: int
    raw: Exchange
    idle_s: float
    deadlines: Deadlines

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        value: str | None = self.raw.headers.get(name)
        return value

    def close(self) -> None:
        """Give the connection back when the body was read to its end, else end it."""
        self.raw.close()

    async def read(self) -> bytes:
        """The next bytes of the body; empty at its end.

        Raises:
            BODY_ERRORS: TimeoutError after `idle_s` without a byte, else what the connection says.
        """
        raw = self.raw
        if raw.is_whole:
            return await raw.read()
        loop = asyncio.get_running_loop()
        wait = Wait(loop.time() + self.idle_s, loop)
        self.deadlines.add(wait, loop)
        try:
            return await raw.read()
        except asyncio.CancelledError as error:
            if not wait.timed_out():
                raise
            raise TimeoutError from error
        finally:
            self.deadlines.remove(wait)

    @property
    def was_reset(self) -> bool:
        """Whether a body that is read to close was ended by a reset instead of an orderly end."""
        return self.raw.was_reset

    async def beginning(self, limit: int) -> tuple[bytes, bool]:
        """Up to `limit` bytes of the body, and whether it was cut there or broke."""
        pieces: list[bytes] = []
        size = 0
        try:
            while chunk := await self.read():
                pieces.append(chunk)
                size += len(chunk)
                if size > limit:
                    self.raw.close()
                    return b"".join(pieces)[:limit], True
        except BODY_ERRORS:
            self.raw.close()
            return b"".join(pieces), True
        except asyncio.CancelledError:
            self.raw.close()
            raise
        return b"".join(pieces), False

    async def drain(self) -> None:
        """Read a small body so that the connection can be used again; end it when it is large or unknown."""
        if self.raw.is_whole:  # all of it came with the head, and the connection is free already
            return
        length = self.raw.content_length
        if length is None or length > MAX_DRAIN_BYTES:
            self.raw.close()
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                while await self.read():
                    pass
        except BODY_ERRORS:
            self.raw.close()
        except asyncio.CancelledError:
            self.raw.close()
            raise
