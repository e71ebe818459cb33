"""Batches of a run on their way to the cold queue, and the wait for their end.

Owns when a batch is opened and enqueued, and what it waits for: its hours, room in the lane, a store that
takes the names of keys. What is sent was counted before, by the checkpoint.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from scheduler.scan.compare.compare import Groups
from scheduler.scan.held import ACCOUNT_SHARE, TICK_S, HeldRun
from scheduler.scan.limits import MessagesLost
from scheduler.scan.names import MOST_WAITING, Names
from workers.errors import BrokerUnavailable, QueueFull
from workers.plan import Lane
from workers.windows import parse_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.runtime import Services
    from scheduler.scan.record.state import Phase, ScanState, ScanStates
    from workers.plan import Batch

#: Messages of the cold lane that scans keep waiting: enough to feed workers, few enough to stop at once.
COLD_DEPTH = 40

#: Seconds for which the cold lane is empty before keys that are still pending count as lost.
LOST_AFTER_S = 60.0

log = structlog.get_logger(__name__)


class SendingRun(HeldRun):
    """A run that sends."""

    def __init__(
        self,
        services: Services,
        states: ScanStates,
        state: ScanState,
        *,
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], dt.datetime] = lambda: dt.datetime.now().astimezone(),
    ) -> None:
        super().__init__(services, states, state, clock=clock)
        self._groups = Groups(state.groups)
        self._names = Names(services, state)
        #: Loop time of the next look at them, and how many blocks the store had not taken at the last.
        self._names_due = 0.0
        self._names_waiting = 0
        self._windows = [parse_window(text) for text in state.options.windows]
        self._local_time = local_time
        #: When the cold lane was first seen empty while keys were pending.
        self._empty_since: float | None = None

    async def _finish(self, phase: Phase, *, error: str = "") -> None:
        await self._names.put_away(least=1)
        await super()._finish(phase, error=error)

    async def _send(self, batches: list[Batch]) -> None:
        """Open and enqueue batches while the cold lane has room. Doing it twice is harmless."""
        if not batches:
            return
        options, outcomes = self.state.options, self._services.ledger.outcomes
        begin = await self._states.sent(self.state.name)
        for batch in batches:
            if batch.batch < begin:
                continue  # the queue had it before this coordinator began
            group = self._groups.of(batch.items[0].key)
            size = len(batch.items)
            if not await outcomes.open_batch(self.state.run, batch.batch, size=size, group=group):
                continue  # done before this coordinator began
            await self._room()
            await self._services.queue.enqueue_many([batch])
            await self._states.mark_sent(self.state.name, batch.batch)
            if options.rate:
                await self._pace(size / options.rate)

    async def _pace(self, seconds: float) -> None:
        """Let the time pass that what was sent takes at the rate that was asked for."""
        await self._wait(seconds)

    async def _names_wait(self) -> bool:
        """Put names away, twice a second at most; whether the store takes none."""
        now = asyncio.get_running_loop().time()
        if now >= self._names_due:
            self._names_due = now + TICK_S
            self._names_waiting = await self._names.put_away()
        return self._names_waiting > MOST_WAITING

    async def _wait(self, seconds: float) -> None:
        """Let time pass, and go on obeying meanwhile."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > TICK_S:
            await asyncio.sleep(TICK_S)
            await self._obey()
        await asyncio.sleep(max(0.0, left))

    async def _room(self) -> None:
        """Wait for the hours of sending and until the cold lane has room; a queue that is away, too."""
        while True:
            await self._obey()
            if self._windows and not any(one.contains(self._local_time()) for one in self._windows):
                await self._wait_for(f"the window {' or '.join(self.state.options.windows)}")
                await asyncio.sleep(TICK_S)
                continue
            try:
                depth = await self._services.queue.depth(Lane.COLD)
            except (BrokerUnavailable, QueueFull) as error:
                log.warning("scan_waits_for_queue", scan=self.state.name, error=str(error))
                await asyncio.sleep(TICK_S)
                continue
            if depth.waiting >= COLD_DEPTH:
                await asyncio.sleep(0.05)
                continue
            if await self._names_wait():
                await self._wait_for("the store to take the names of keys")
                await asyncio.sleep(TICK_S)
                continue
            await self._wait_for("")
            return

    async def _wait_for(self, what: str) -> None:
        if self.state.waiting != what:
            await self._put(self.state)
            await self._put(replace(self.state, waiting=what))

    async def _await_moved(self) -> None:
        """Wait until no key is pending; failures do not hold it up, they are listed.

        Raises:
            MessagesLost: nothing is under way that would end it.
        """
        while True:
            await self._obey()
            await self._names_wait()
            pending = await self._account(ended=True)
            if self.state.options.dry_run or pending == 0:
                return
            await self._heed_lost(pending)
            await self._put(self.state)
            await asyncio.sleep(max(TICK_S, self._account_s * ACCOUNT_SHARE))

    async def _heed_lost(self, pending: int) -> None:
        """Keys whose messages a Redis forgot are pending for ever: end the run, so that another may begin."""
        try:
            depth = await self._services.queue.depth(Lane.COLD)
        except BrokerUnavailable:
            return
        now = self._clock()
        if depth.waiting or depth.running or depth.delayed:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        elif now - self._empty_since >= LOST_AFTER_S:
            error = MessagesLost(self.state.name, pending)
            self.state = replace(self.state, spoilt="Redis lost messages of it")
            raise error
