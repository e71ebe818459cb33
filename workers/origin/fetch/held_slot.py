"""The slot that one fetch holds while bytes flow, whichever host its redirects led to.

Owns taking it, changing it for another host's, and the time that was spent waiting, which no origin is blamed
for. Knows no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.control.budget import Slot
    from workers.origin.control.control import OriginControl
    from workers.plan import Lane


class HeldSlot:
    """At most one slot at a time; `release` gives it back whatever happened."""

    __slots__ = ("_clock", "_control", "_host", "_lane", "_timeout_s", "slot", "waited_s")

    def __init__(
        self, control: OriginControl, lane: Lane, *, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        #: What is held now, and seconds of waiting for budget so far.
        self.slot: Slot | None = None
        self.waited_s = 0.0
        self._control = control
        self._lane = lane
        self._timeout_s = timeout_s
        self._clock = clock
        self._host = ""

    async def take(self, host: str) -> None:
        """Hold a slot of this host's budget, instead of another host's when a redirect left it.

        Raises:
            BudgetExhausted: none came free in time; none is held then.
        """
        if self.slot is not None:
            if self._host == host:
                return
            self.slot.release()
            self.slot = None
        self._host = host
        self.slot = self._control.acquire_now(host, self._lane)
        if self.slot is not None:
            return
        started = self._clock()
        try:
            self.slot = await self._control.acquire(host, self._lane, timeout_s=self._timeout_s)
        finally:
            self.waited_s += self._clock() - started

    def release(self) -> None:
        """Give it back; harmless when nothing is held."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()
