"""Where the misses of a log go: the queue, or nowhere when only asked what would be done.

Owns delivery with patience: a deep queue or a Redis that is away makes it wait, never drop. Knows no file.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Protocol

import structlog
from redis.exceptions import RedisError

from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.back import DELETED
from workers.plan import Lane
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scheduler.dispatch.dispatcher import Dispatcher, DispatchReport
    from scheduler.misses.event import MissEvent
    from scheduler.misses.refusals import Deletion
    from workers.ledger.ledger import Ledger

log = structlog.get_logger(__name__)

#: Seconds that a tombstone from a log or a notification lasts: longer than migrations do (S15).
TOMBSTONE_TTL_S = 90 * 86_400.0
#: Events of one call, so that one dispatch never blocks the process for long.
_CALL_EVENTS = 5_000
_LONGEST_WAIT_S = 5.0
#: What can become of a miss event, as metrics name it.
_RESULTS = ("accepted", "duplicate", "unmatched", "absent", "tombstoned", "refused")


class Stopped(Exception):
    """The wait for the queue was ended by a stop; nothing of the chunk counts as delivered."""


class Sink(Protocol):
    """Takes the events of a chunk; returns when all of them are safe."""

    async def deliver(self, events: Sequence[MissEvent], deletions: Sequence[Deletion]) -> Mapping[str, int]:
        """Counts by outcome.

        Raises:
            Stopped: the process is to end.
        """


class QueueSink:
    """Deletions become tombstones first, then misses go to the queue."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        ledger: Ledger,
        stop: asyncio.Event,
        lane: Lane = Lane.HOT,
        events_per_s: float | None = None,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ready`: whether the rules are known; before that every miss would seem to match none."""
        self._dispatcher = dispatcher
        self._ready = ready
        self._ledger = ledger
        self._stop = stop
        self._lane = lane
        self._rate = events_per_s
        self._clock = clock
        self._due = clock()
        #: Seconds waited for the queue so far, and why it waits now.
        self.waited_s = 0.0
        self.waiting_for = ""

    async def deliver(self, events: Sequence[MissEvent], deletions: Sequence[Deletion]) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        if deletions:
            await self._bury(deletions)
            counts["tombstones"] += len(deletions)
        step = _CALL_EVENTS if self._rate is None else max(1, min(_CALL_EVENTS, int(self._rate)))
        for at in range(0, len(events), step):
            part = events[at : at + step]
            await self._pace(len(part))
            report = await self._dispatch(part)
            counts["accepted"] += report.accepted
            counts["duplicate"] += report.duplicate
            counts["unmatched"] += report.unmatched
            counts["absent"] += report.absent
            counts["tombstoned"] += report.tombstoned
            for _, reason in report.refused:
                counts["refused"] += 1
                counts[f"refused:{reason}"] += 1
        for result in _RESULTS:
            metrics.events_taken("log", result, counts[result])
        return counts

    async def _dispatch(self, events: Sequence[MissEvent]) -> DispatchReport:
        delay_s = 0.1
        while not self._ready():
            await self._wait(0.2, "rules_unknown", "the rules have not been read from Redis yet")
        while True:
            try:
                report = await self._dispatcher.dispatch(events, lane=self._lane)
            except QueueFull as error:
                await self._wait(error.retry_after_s, "queue_full", error)
            except BrokerUnavailable as error:
                await self._wait(delay_s, "broker_unavailable", error)
                delay_s = min(_LONGEST_WAIT_S, delay_s * 2)
            else:
                self.waiting_for = ""
                return report

    async def _bury(self, deletions: Sequence[Deletion]) -> None:
        buckets: dict[str, list[str]] = defaultdict(list)
        for deletion in deletions:
            buckets[deletion.bucket].append(deletion.key)
        delay_s = 0.1
        for bucket, keys in buckets.items():
            while True:
                try:
                    await self._ledger.claims.add_tombstones(
                        bucket, keys, ttl_s=TOMBSTONE_TTL_S, reason="deleted"
                    )
                    await self._dispatcher.note_back(bucket, keys, DELETED)
                    break
                except (RedisError, OSError, BrokerUnavailable) as error:
                    await self._wait(delay_s, "broker_unavailable", error)
                    delay_s = min(_LONGEST_WAIT_S, delay_s * 2)

    async def _pace(self, number: int) -> None:
        """Hold `events_per_s`, if there is one."""
        if self._rate is None:
            return
        now = self._clock()
        self._due = max(self._due, now)
        if self._due > now:
            await self._sleep(self._due - now)
        self._due += number / self._rate

    async def _wait(self, delay_s: float, reason: str, error: Exception | str) -> None:
        if self.waiting_for != reason:
            self.waiting_for = reason
            log.warning("consumer_waits", reason=reason, error=str(error))
        self.waited_s += delay_s
        await self._sleep(delay_s)

    async def _sleep(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), delay_s)
        except TimeoutError:
            return
        raise Stopped


class DrySink:
    """Says what would be asked for, and asks for nothing."""

    waited_s = 0.0
    waiting_for = ""

    def __init__(
        self,
        show: Callable[[MissEvent | Deletion], None],
        leave: Callable[[MissEvent], str] = lambda _: "",
    ) -> None:
        """`leave` says why nothing would be asked for, and shows that itself; empty: it would."""
        self._show = show
        self._leave = leave
        self._seen: set[tuple[str, str]] = set()

    async def deliver(self, events: Sequence[MissEvent], deletions: Sequence[Deletion]) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        for deletion in deletions:
            self._show(deletion)
            counts["tombstones"] += 1
        for event in events:
            name = (event.bucket, event.key)
            if name in self._seen:
                counts["duplicate"] += 1
                continue
            self._seen.add(name)
            if reason := self._leave(event):
                counts["unmatched" if reason == "unmatched" else "refused"] += 1
                continue
            self._show(event)
            counts["would_fetch"] += 1
        return counts
