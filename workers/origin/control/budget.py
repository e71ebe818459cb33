"""The budget of one origin host in one process: who may ask now, who waits, and in which order.

Owns the counting of requests in flight, the queue of those that wait (hot before cold, first come first
served), and this process's leased share of the fleet's slots. Waiting costs no attempt: it ends with a
slot or, after the caller's time, with `BudgetExhausted`. A request costs Redis nothing while the share
suffices; leases are renewed in the background, and end by themselves when the process does.
SEMANTICS.md L15, A25.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from workers.background import end
from workers.errors import BudgetExhausted
from workers.origin.control.adaptive import Adaptive
from workers.origin.control.limits import UNBOUNDED, Limits, cold_part
from workers.origin.control.rates import Rate
from workers.origin.control.share import Demand, Share
from workers.plan import Lane
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from workers.origin.control.fleet import Fleet
    from workers.origin.control.limits import Schedule

#: Seconds until a process that lacks slots asks the fleet again.
RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all budgets of a process have in common."""

    fleet: Fleet | None
    hot_share: float
    adaptive: bool
    #: Lease time in seconds, at most 30; renewed every second.
    lease_s: float
    clock: Callable[[], float]
    local_time: Callable[[], datetime]


class Slot:
    """The right to one request; leaving its context gives it back."""

    __slots__ = ("_budget", "_lane", "_open")

    def __init__(self, budget: HostBudget, lane: Lane) -> None:
        self._budget = budget
        self._lane = lane
        self._open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the slot back; a second call does nothing."""
        if self._open:
            self._open = False
            self._budget.release(self._lane)

    async def pace(self, n_bytes: int) -> None:
        """Account for bytes that were read; waits while the host's bytes a second are spent."""
        rate = self._budget.bytes_rate
        if rate is not None and not rate.try_take(self._lane, n_bytes):
            await rate.take(self._lane, n_bytes)


class HostBudget:
    """One host's budget, as this process holds it."""

    def __init__(self, host: str, schedule: Schedule, around: Surroundings) -> None:
        self.host = host
        self.adaptive = Adaptive(around.clock) if around.adaptive else None
        self.limits: Limits = UNBOUNDED
        self.bytes_rate: Rate | None = None
        self.requests_rate: Rate | None = None
        #: Requests in flight.
        self.hot = 0
        self.cold = 0
        self.share = Share(
            host, around.fleet, hot_share=around.hot_share, lease_s=around.lease_s, clock=around.clock
        )
        self.used_at = around.clock()
        self._around = around
        self._schedule = schedule
        self._peak_hot = 0
        self._peak_cold = 0
        self._paused_until = 0.0
        self._cap: float = math.inf
        self._cap_cold: float = math.inf
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {Lane.HOT: deque(), Lane.COLD: deque()}
        self._chaser: asyncio.Task[None] | None = None
        self._closed = False
        self.refresh()

    # ------------------------------------------------------------ asking

    async def acquire(self, lane: Lane, timeout_s: float) -> Slot:
        """A slot for one request.

        Raises:
            BudgetExhausted: none came free within `timeout_s` seconds; `retry_after_s` is set.
        """
        return self.acquire_now(lane) or await self._acquire_waiting(lane, timeout_s)

    def acquire_now(self, lane: Lane) -> Slot | None:
        """A slot that nobody has to wait for, or None."""
        if not self._waiting[lane] and self._may(lane):
            rate = self.requests_rate
            if rate is None or rate.try_take(lane, 1.0):
                self._enter(lane)
                return Slot(self, lane)
        return None

    async def _acquire_waiting(self, lane: Lane, timeout_s: float) -> Slot:
        began = self._around.clock()
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                if not self._waiting[lane] and self._may(lane):
                    self._enter(lane)
                else:
                    await self._queue(lane)
                rate = self.requests_rate
                if rate is not None:
                    try:
                        await rate.take(lane, 1.0)
                    except BaseException:
                        self.release(lane)
                        raise
        except TimeoutError:
            metrics.budget_exhausted(lane)
            error = BudgetExhausted(f"no slot for {self.host} within {timeout_s:g} s")
            error.retry_after_s = max(1.0, self.pause_s())
            raise error from None
        metrics.budget_waited(lane, self._around.clock() - began)
        return Slot(self, lane)

    async def _queue(self, lane: Lane) -> None:
        line = self._waiting[lane]
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        self._chase()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(lane)
            elif turn in line:
                line.remove(turn)
            raise

    def release(self, lane: Lane) -> None:
        """One request of the lane has ended."""
        if lane is Lane.HOT:
            self.hot -= 1
        else:
            self.cold -= 1
        if self._waiting[Lane.HOT] or self._waiting[Lane.COLD]:
            self._wake()
        if self.share.others_wait:
            self._chase()

    # ------------------------------------------------------------ what the origin stands

    def succeeded(self, first_byte_s: float) -> None:
        """A good answer came; the adaptive limit may grow."""
        adaptive = self.adaptive
        if adaptive is not None:
            limit = adaptive.limit
            adaptive.succeeded(first_byte_s, self.hot + self.cold)
            if adaptive.limit != limit:
                self._recap()

    def distressed(self) -> None:
        """The origin said 429 or 503, or did not answer in time; the adaptive limit shrinks."""
        if self.adaptive is not None:
            self.adaptive.distressed()
            self._recap()

    def pause(self, for_s: float) -> None:
        """Ask nothing for so many seconds, because the origin said so."""
        until = self._around.clock() + for_s
        if until > self._paused_until:
            self._paused_until = until
            if self._waiting[Lane.HOT] or self._waiting[Lane.COLD]:
                self._wake_later(for_s)

    def pause_s(self) -> float:
        """Seconds left of the pause."""
        return max(0.0, self._paused_until - self._around.clock())

    # ------------------------------------------------------------ the fleet

    def refresh(self) -> None:
        """Apply the limits of the present hour; called every second and at the start."""
        limits = self._schedule.at(self._around.local_time())
        if limits != self.limits:
            self.limits = limits
            self.requests_rate = self._rate(self.requests_rate, "requests", limits.requests_per_s)
            self.bytes_rate = self._rate(self.bytes_rate, "bytes", limits.bytes_per_s)
            if self._around.fleet is None and limits.concurrency is not None:
                self.share.take_all(limits.concurrency)
        self._recap()
        self._wake()

    def reschedule(self, schedule: Schedule) -> None:
        """Other budgets hold from now on."""
        self._schedule = schedule
        self.refresh()

    async def renew(self) -> None:
        """The every-second renewal: what was not used since the last one goes back to the fleet."""
        self.refresh()
        if self._schedule.bounded:
            await self._lease()
            self._peak_hot, self._peak_cold = self.hot, self.cold

    def wanted(self) -> bool:
        """In use, or waited for."""
        return bool(self.hot or self.cold or self._waiting[Lane.HOT] or self._waiting[Lane.COLD])

    async def close(self) -> None:
        """End the background task and give the slots back."""
        self._closed = True
        if self._chaser is not None:
            await end(self._chaser)
        await self.share.give_back()

    async def _lease(self) -> None:
        if self._around.fleet is None:
            return
        share = self.share
        await share.renew(self.limits, self._demand, self._recap)
        for rate in (self.requests_rate, self.bytes_rate):
            if rate is not None:
                rate.renewed(share.members, silent=share.silent, away=share.away)
        self._recap()
        self._wake()

    def _demand(self) -> Demand:
        return Demand(
            hot=self.hot,
            cold=self.cold,
            hot_waiting=len(self._waiting[Lane.HOT]),
            cold_waiting=len(self._waiting[Lane.COLD]),
            hot_peak=self._peak_hot,
            cold_peak=self._peak_cold,
        )

    def _chase(self) -> None:
        """Ask the fleet for slots in the background until nobody here lacks any."""
        needed = self.limits.concurrency is not None and self._around.fleet is not None and not self._closed
        if needed and (self._chaser is None or self._chaser.done()):
            self._chaser = asyncio.get_running_loop().create_task(self._chase_slots())

    async def _chase_slots(self) -> None:
        while True:
            await self._lease()
            lacking = self._waiting[Lane.HOT] or self._waiting[Lane.COLD]
            leased, used = self.share.total, self.hot + self.cold
            draining = used > leased or (self.share.others_wait and used < leased)
            if not lacking and not draining:
                return
            await asyncio.sleep(RETRY_S)

    # ------------------------------------------------------------ counting

    def _may(self, lane: Lane) -> bool:
        if self.hot + self.cold >= self._cap:
            return False
        if lane is Lane.COLD and (self.cold >= self._cap_cold or self._waiting[Lane.HOT]):
            return False
        return not self._paused_until or self._around.clock() >= self._paused_until

    def _enter(self, lane: Lane) -> None:
        if lane is Lane.HOT:
            self.hot += 1
            self._peak_hot = max(self._peak_hot, self.hot)
        else:
            self.cold += 1
            self._peak_cold = max(self._peak_cold, self.cold)

    def _wake(self) -> None:
        for lane in (Lane.HOT, Lane.COLD):
            line = self._waiting[lane]
            while line and self._may(lane):
                turn = line.popleft()
                if not turn.done():
                    self._enter(lane)
                    turn.set_result(None)
        if self._waiting[Lane.HOT] or self._waiting[Lane.COLD]:
            left_s = self.pause_s()
            if left_s:
                self._wake_later(left_s)

    def _wake_later(self, after_s: float) -> None:
        asyncio.get_running_loop().call_later(after_s, self._wake)

    def _recap(self) -> None:
        cap: float = math.inf
        cold: float = math.inf
        if self.adaptive is not None:
            cap = self.adaptive.limit
            cold = cold_part(self.adaptive.limit, self._around.hot_share)
        if self.limits.closed:
            cap = cold = 0
        elif self.limits.concurrency is not None:
            cap = min(cap, self.share.total)
            cold = min(cold, self.share.cold)
        self._cap, self._cap_cold = cap, cold

    def _rate(self, present: Rate | None, kind: str, per_s: float | None) -> Rate | None:
        """The rate for new limits; a closed window leaves running transfers at their last speed."""
        if per_s is None:
            return None
        if present is not None:
            present.rate = per_s or present.rate
            return present
        if not per_s:
            return None
        return Rate(
            host=self.host,
            kind=kind,
            rate=per_s,
            hot_share=self._around.hot_share,
            fleet=self._around.fleet,
            clock=self._around.clock,
        )
