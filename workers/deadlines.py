"""Deadlines of many waits with one timer.

Owns who has waited too long. A timer for each wait costs more than most that is ours on the way to a first
byte (measured: 20 us for a request to an origin, 6 for a look into the store), so one tick looks at all of
them; a deadline is met to within a tick. Must not know what is waited for.
"""

from __future__ import annotations

import asyncio
from typing import Final

#: Seconds between two looks, where nobody says otherwise.
TICK_S: Final = 0.05


class Wait:
    """One wait of the task that makes it: when its time is over, the task is cancelled."""

    __slots__ = ("at", "cancelling", "expired", "task")

    def __init__(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self.task = task
        self.cancelling = task.cancelling()
        #: Loop time at which it is over.
        self.at = at
        self.expired = False

    def timed_out(self) -> bool:
        """Whether the CancelledError that was just caught is this deadline's and nobody else's."""
        return self.expired and self.task.uncancel() <= self.cancelling


class Deadlines:
    """Everybody who waits now."""

    def __init__(self, *, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._waits: set[Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, wait: Wait, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a wait; only while its task is inside the guarded await."""
        self._waits.add(wait)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._tick, loop)

    def remove(self, wait: Wait) -> None:
        """It came, or it failed; harmless when repeated."""
        self._waits.discard(wait)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for wait in [wait for wait in self._waits if wait.at <= now]:
            self._waits.discard(wait)
            wait.expired = True
            wait.task.cancel()
        self._timer = loop.call_later(self._tick_s, self._tick, loop) if self._waits else None
