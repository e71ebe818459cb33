"""Pulls that a front leaves to the workers.

Owns handing keys to the queue without a client ever noticing when that is slow or impossible (A26, A32):
the tasks belong to the application, a failure is counted, and a queue that did not answer is not waited for
again for a while.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.claims import ClaimState
from workers.plan import Lane
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.dispatch.dispatcher import Dispatcher
    from scheduler.front.stats import GatewayStats
    from workers.plan import FetchItem, FetchPlan

log = structlog.get_logger()

#: Seconds that a Proxy answer waits for the queue's word.
PATIENCE_S = 0.25
#: Seconds for which a queue that was away is not waited for.
PAUSE_S = 5.0
#: Pulls that may be on their way to the queue at the same time; beyond it they are dropped and counted.
MAX_PENDING = 10_000


class Queued(Enum):
    """What became of a key that was offered to the queue."""

    ACCEPTED = "accepted"
    #: A pull for it is on its way already.
    DUPLICATE = "duplicate"
    #: No origin had it lately (A30).
    ABSENT = "absent"
    TOMBSTONE = "tombstone"
    #: The lane is over its bound.
    FULL = "full"
    #: The queue did not answer, or not in time (A32).
    UNKNOWN = "unknown"


_STATES = {
    ClaimState.CLAIMED: Queued.ACCEPTED,
    ClaimState.DUPLICATE: Queued.DUPLICATE,
    ClaimState.ABSENT: Queued.ABSENT,
    ClaimState.TOMBSTONE: Queued.TOMBSTONE,
}


class Jobs:
    """The front's way to the queue."""

    def __init__(self, dispatcher: Dispatcher, stats: GatewayStats) -> None:
        self._dispatcher = dispatcher
        self._stats = stats
        #: On their way to the queue: until it has a key, the ledger's claim does not deduplicate it.
        self._tasks: dict[tuple[str, str], asyncio.Task[Queued]] = {}
        self._away_until = 0.0

    @property
    def pending(self) -> int:
        """Pulls on their way to the queue."""
        return len(self._tasks)

    def offer(
        self, plan: FetchPlan, item: FetchItem, *, refused: Callable[[], None] | None = None
    ) -> asyncio.Task[Queued] | None:
        """Hand a key to the hot lane in the background; None when too many are on their way.

        `refused` is called when the queue did not take it: the caller may have another way.
        """
        name = (plan.bucket, item.key)
        running = self._tasks.get(name)
        if running is not None:
            return running
        if len(self._tasks) >= MAX_PENDING:
            self._stats.answered("enqueue_failed", plan.bucket, plan.rule)
            return None
        task = asyncio.create_task(self._send(plan, item, refused), name="front-job")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return task

    async def ask(self, plan: FetchPlan, item: FetchItem) -> Queued:
        """Hand a key over and wait a moment for the queue's word; the handing over goes on by itself."""
        away = asyncio.get_running_loop().time() < self._away_until
        task = self.offer(plan, item)
        if task is None or away:
            return Queued.UNKNOWN
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            return task.result()
        self._pause()
        return Queued.UNKNOWN

    async def _send(self, plan: FetchPlan, item: FetchItem, refused: Callable[[], None] | None) -> Queued:
        try:
            state = await self._dispatcher.dispatch_planned(plan, item, lane=Lane.HOT)
        except QueueFull:
            result = Queued.FULL
        except BrokerUnavailable as error:
            self._pause()
            log.warning("enqueue_failed", bucket=plan.bucket, key=item.key, error=str(error))
            result = Queued.UNKNOWN
        else:
            metrics.claimed(state.value)
            return _STATES[state]
        self._stats.answered("enqueue_failed", plan.bucket, plan.rule)
        if refused is not None:
            refused()
        return result

    def _pause(self) -> None:
        self._away_until = asyncio.get_running_loop().time() + PAUSE_S

    async def close(self, timeout_s: float) -> None:
        """Let what is on its way arrive."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks.values()), timeout=timeout_s)
            for task in late:
                task.cancel()
