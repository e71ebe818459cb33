"""A body whose end waits: until then the store has a request that it can do nothing with.

Owns the order of the last piece and what it waits for. Must not know what that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable


class HeldBack:
    """A body in pieces, the last one once `last` has returned; read it once.

    Args:
        body: not empty; what it raises breaks the request off.
        last: awaited before the last piece; what it raises breaks the request off, too.
    """

    def __init__(self, body: bytes | AsyncIterable[bytes], last: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._last = last
        #: What `last` raised.
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = self._body if isinstance(self._body, bytes) else b""
        if not isinstance(self._body, bytes):
            async for piece in self._body:
                if held:
                    yield held
                held = piece or held
        try:
            await self._last()
        except Exception as error:
            self.failure = error
            raise
        yield held
