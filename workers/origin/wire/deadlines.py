"""Deadlines of many requests with one timer.

Owns who has waited too long for a connection, the first byte or the next ones. A timer for each request costs
more than everything else that is ours on the way to the first byte (measured: 20 us), so one tick looks at
all of them; a deadline is met to within `TICK_S`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.origin.wire.addresses import Refusal

#: Seconds between two looks.
TICK_S = 0.05


class Dial:
    """One wait: the connect deadline becomes the first-byte deadline once connected."""

    __slots__ = (
        "at",
        "cancelling",
        "connected",
        "expired",
        "refusals",
        "task",
    )

    def __init__(self, at: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.cancelling = task.cancelling()
        #: Loop time at which it is over.
        self.at = at
        self.connected = False
        self.expired = False
        #: What the guard refused while connecting.
        self.refusals: list[Refusal] = []

    def timed_out(self) -> bool:
        """Whether the CancelledError that was just caught is this deadline's and nobody else's."""
        return self.expired and self.task.uncancel() <= self.cancelling


class Deadlines:
    """Everybody who waits now."""

    def __init__(self) -> None:
        self._dials: set[Dial] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, dial: Dial, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a wait; only while its task is inside the guarded await."""
        self._dials.add(dial)
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._tick, loop)

    def remove(self, dial: Dial) -> None:
        """It came, or it failed."""
        self._dials.discard(dial)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for dial in [dial for dial in self._dials if dial.at <= now]:
            self._dials.discard(dial)
            dial.expired = True
            dial.task.cancel()
        self._timer = loop.call_later(TICK_S, self._tick, loop) if self._dials else None
