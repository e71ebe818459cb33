"""The byte budgets of a process: memory for parts in flight, disk for parts that are too large for it.

Owns who may hold how many bytes. Pure asyncio: knows neither stores nor origins.

No deadlock by construction: whoever waits here holds only parts that are already on their way and will be
given back without any further reservation. So a transfer reserves a whole part before it fills it, never a
piece of one. Who takes bytes ahead, and then waits for a slot of an origin's budget, leaves some for those
who have their slot and wait for their next part.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Self


class Reservation:
    """Bytes that belong to one holder until released; releasing twice is harmless."""

    __slots__ = ("_budget", "n_bytes")

    def __init__(self, budget: MemoryBudget, n_bytes: int) -> None:
        self._budget = budget
        self.n_bytes = n_bytes

    def release(self) -> None:
        """Give everything back."""
        self.shrink(0)

    def shrink(self, n_bytes: int) -> None:
        """Keep only that many bytes; never grows."""
        if n_bytes < self.n_bytes:
            back, self.n_bytes = self.n_bytes - n_bytes, n_bytes
            self._budget._give_back(back)  # noqa: SLF001 -- one class in two parts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


class MemoryBudget:
    """A number of bytes shared by all transfers of a process; first come, first served.

    `kept_bytes` of them are never given to who takes them ahead.
    """

    def __init__(self, limit_bytes: int, *, kept_bytes: int = 0) -> None:
        #: Bytes that may be held at the same time.
        self.limit_bytes = limit_bytes
        self._kept_bytes = kept_bytes
        #: Bytes held now, and the most that were ever held.
        self.used_bytes = 0
        self.peak_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._ahead: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many transfers wait for bytes."""
        return len(self._waiting) + len(self._ahead)

    def try_reserve(self, n_bytes: int) -> Reservation | None:
        """Take the bytes at once, or None when they are not free or somebody waits before us."""
        if self._waiting or self.used_bytes + n_bytes > self.limit_bytes:
            return None
        self._take(n_bytes)
        return Reservation(self, n_bytes)

    async def reserve(self, n_bytes: int, *, ahead: bool = False) -> Reservation:
        """Wait until the bytes are free, then hold them; `ahead` of something else that is waited for.

        Raises:
            ValueError: more than could ever be given.
        """
        limit_bytes = self.limit_bytes - (self._kept_bytes if ahead else 0)
        if n_bytes > limit_bytes:
            raise ValueError(f"{n_bytes} bytes asked of a budget of {limit_bytes}")
        if not self._waiting and not (ahead and self._ahead) and self.used_bytes + n_bytes <= limit_bytes:
            self._take(n_bytes)
            return Reservation(self, n_bytes)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._ahead if ahead else self._waiting
        waiting.append((n_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(n_bytes)  # the turn came in the same moment
            else:
                with contextlib.suppress(ValueError):  # who was served meanwhile has passed it over
                    waiting.remove((n_bytes, turn))
                self._serve()
            raise
        return Reservation(self, n_bytes)

    def _take(self, n_bytes: int) -> None:
        self.used_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def _give_back(self, n_bytes: int) -> None:
        self.used_bytes -= n_bytes
        if self._waiting or self._ahead:
            self._serve()

    def _serve(self) -> None:
        limit_bytes = self.limit_bytes
        for waiting in (self._waiting, self._ahead):
            while waiting:
                n_bytes, turn = waiting[0]
                if turn.done():
                    waiting.popleft()
                    continue
                if self.used_bytes + n_bytes > limit_bytes:
                    return
                waiting.popleft()
                self._take(n_bytes)
                turn.set_result(None)
            limit_bytes -= self._kept_bytes
