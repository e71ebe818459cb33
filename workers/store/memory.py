"""The byte budgets of a process: memory for parts in flight, disk for parts that are too large for it.

Owns who may hold how many bytes. Pure asyncio: knows neither stores nor origins.

No deadlock by construction: whoever waits here holds only parts that are already on their way and will be
given back without any further reservation. So a transfer reserves a whole part before it fills it, never a
piece of one.
"""

from __future__ import annotations

import asyncio
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
    """A number of bytes shared by all transfers of a process; first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        #: Bytes that may be held at the same time.
        self.limit_bytes = limit_bytes
        #: Bytes held now, and the most that were ever held.
        self.used_bytes = 0
        self.peak_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many transfers wait for bytes."""
        return len(self._waiting)

    def try_reserve(self, n_bytes: int) -> Reservation | None:
        """Take the bytes at once, or None when they are not free or somebody waits before us."""
        if self._waiting or self.used_bytes + n_bytes > self.limit_bytes:
            return None
        self._take(n_bytes)
        return Reservation(self, n_bytes)

    async def reserve(self, n_bytes: int) -> Reservation:
        """Wait until the bytes are free, then hold them.

        Raises:
            ValueError: more than the whole budget; it could never be given.
        """
        if n_bytes > self.limit_bytes:
            raise ValueError(f"{n_bytes} bytes asked of a budget of {self.limit_bytes}")
        taken = self.try_reserve(n_bytes)
        if taken is not None:
            return taken
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((n_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(n_bytes)  # the turn came in the same moment
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._serve()
            raise
        return Reservation(self, n_bytes)

    def _take(self, n_bytes: int) -> None:
        self.used_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def _give_back(self, n_bytes: int) -> None:
        self.used_bytes -= n_bytes
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            n_bytes, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if self.used_bytes + n_bytes > self.limit_bytes:
                return
            self._waiting.popleft()
            self._take(n_bytes)
            turn.set_result(None)
