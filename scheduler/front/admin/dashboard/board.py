"""What the pages show, read once for all who look, and written down once a minute for the charts.

Owns the cache and the sampler. A hundred open pages cost one reading every `FRESH_S` seconds; a server that
is away leaves the last known state, with its time. Nobody looking, nothing is read but the minute's sample.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog
from redis.exceptions import RedisError

from scheduler.front.admin.dashboard.glance import Glance, glance
from scheduler.front.admin.dashboard.samples import Samples
from scheduler.front.stats import NEEDS_ORIGIN
from scheduler.status import collect
from workers.background import end
from workers.errors import described
from workers.ledger.history import History, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.status import Sources, Status

log = structlog.get_logger(__name__)

#: Seconds for which a reading serves everybody.
FRESH_S = 2.0
#: Origins whose latency is kept: those with the most answers.
_ORIGINS_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One state of everything. `stale` says why it is not the present one; empty when it is."""

    status: Status
    glance: Glance
    stale: str = ""


class Board:
    """The state that pages show; one per admin process."""

    def __init__(
        self,
        sources: Sources,
        *,
        stop: asyncio.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stop` ends the streams of open pages."""
        self._sources = sources
        self._notice = sources.settings.admin.notice
        self._stop = stop or asyncio.Event()
        self._clock = clock
        self._history = History(sources.redis, namespace=sources.ledger.namespace)
        self._samples = Samples(self._history)
        self._reading: Reading | None = None
        self._running: asyncio.Task[Reading] | None = None
        self._sampler: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*(task for task in (self._running, self._sampler) if task is not None))

    async def until_next(self, seconds: float) -> bool:
        """Wait so long; False when the process stops meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return not self._stop.is_set()

    async def read(self) -> Reading:
        """The present state, at most `FRESH_S` old; who asks while it is read shares it."""
        known = self._reading
        if known is not None and not known.stale and self._clock() - known.status.at < FRESH_S:
            return known
        if self._running is None:
            self._running = asyncio.create_task(self._read())
            self._running.add_done_callback(self._over)
        return await asyncio.shield(self._running)

    def _over(self, task: asyncio.Task[Reading]) -> None:
        self._running = None
        if not task.cancelled() and task.exception() is None:
            self._reading = task.result()

    async def _read(self) -> Reading:
        status = await collect(self._sources)
        try:
            minutes, hours = await self._samples.read(self._clock())
        except (RedisError, OSError) as error:
            if self._reading is not None and "queues" in status.problems:
                known = self._reading
                return Reading(status=known.status, glance=known.glance, stale=described(error))
            minutes, hours = (), ()
        return Reading(status=status, glance=glance(status, minutes, hours, notice=self._notice))

    # ------------------------------------------------------------ the minute's sample
    def start_sampling(self) -> None:
        """Begin to write a sample each minute, unless another process of the fleet does."""
        if self._sampler is None:
            self._sampler = asyncio.create_task(self._sample(), name="history")

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(60 - self._clock() % 60 + 10)  # fronts write the minute within 5 s
            try:
                await self.sample(int(self._clock()) // 60 - 1)
            except (RedisError, OSError) as error:
                log.warning("history_not_written", error=described(error))

    async def sample(self, minute: int) -> bool:
        """Write the sample of a minute (unix seconds // 60) that is over; False when somebody else does."""
        if not await self._history.mine(minute):
            return False
        status = await collect(self._sources, reasons=False)
        for bucket, listed in status.failures.items():
            if listed and await self._sources.ledger.failures.recount(bucket):
                log.info("failure_reasons_counted_anew", bucket=bucket, listed=listed)
        hits = origin = 0
        for name in await self._sources.ledger.minutes.watchers():
            if name.startswith("front:"):
                counts = await self._sources.ledger.minutes.of(name, minute)
                hits += counts.get("hit", 0)
                origin += sum(counts.get(what, 0) for what in NEEDS_ORIGIN)
        await self._history.write(
            Sample(
                at=minute * 60,
                hits=hits,
                origin=origin,
                stored=sum(rule.counts.get("stored", 0) for rule in status.rules),
                stored_bytes=sum(rule.counts.get("bytes", 0) for rule in status.rules),
                failures=sum(status.failures.values()),
                waiting={queue.lane: queue.waiting + queue.delayed for queue in status.queues},
                oldest_s={queue.lane: queue.oldest_age_s for queue in status.queues},
                first_bytes=await self._sources.ledger.first_bytes.of(minute),
                origins={
                    one.host: (one.answers, one.p50_s, one.p99_s)
                    for one in sorted(status.origins, key=lambda one: -one.answers)[:_ORIGINS_KEPT]
                },
            )
        )
        return True
