"""The lane of shards: its messages, and the process that works them off.

Owns the link to dramatiq: a message names a shard, a thread of dramatiq's worker waits while the shard runs
on the event loop of the process. Whoever coordinates scans works the lane off as well; `ferryman worker`
keeps processes that do nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import structlog
from redis.exceptions import RedisError

from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.record.state import ScanStates
from scheduler.scan.shards.records import ShardStates, say_working
from scheduler.scan.shards.share import Share
from workers.background import end, to_the_end
from workers.errors import BrokerUnavailable
from workers.queue.broker import make_broker
from workers.queue.waiting import make_patient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.shards.range_run import RangeRun
    from workers.queue.queue import JobQueue

#: Its name, that of its actor, and the version of its messages.
SCAN_LANE: Final = "scan"
_ACTOR: Final = "compare_shard"
_VERSION: Final = 1
#: Of scans the other way round, whose records stand among the others.
REVERSE: Final = "reverse"
#: Shards that a process runs at once: most of the time each waits for a page of a listing.
THREADS: Final = 32
#: Milliseconds between looks of a consumer that may take no more, and of threads that are about to end.
_IDLE_MS: Final = 500
_SIGN_EVERY_S: Final = 4.0
#: Seconds that a process which ends waits for its shards to stop at their next step.
_STOP_S: Final = 10.0

log = structlog.get_logger(__name__)


async def queue_shard(queue: JobQueue, scan: ScanState, number: int, *, records: str = "scans") -> None:
    """Put the message of a shard on the lane; `records` is the hash that the run's record stands in.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    message = {"v": _VERSION, "scan": scan.name, "run": scan.run, "shard": number, "records": records}
    await queue.enqueue_order(SCAN_LANE, _ACTOR, message)


async def shard_waits(queue: JobQueue, stop: asyncio.Event, seconds: float) -> bool:
    """Wait until a message is on the lane, and take none; False after `seconds`, or earlier at `stop`.

    A Redis that does not say so is one without a message.
    """
    until = asyncio.get_running_loop().time() + seconds
    stopped = asyncio.create_task(stop.wait())
    called = asyncio.create_task(queue.arrival(SCAN_LANE, seconds))
    try:
        await asyncio.wait({stopped, called}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if called.done() and called.exception() is None and called.result():
            return True
        await asyncio.wait({stopped}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        return False
    finally:
        await end(stopped, called)


class ShardLane:
    """Works the lane off in this process, on the event loop that it is started on."""

    def __init__(
        self,
        services: Services,
        directory: Path,
        *,
        runs: Mapping[str, type[RangeRun]],
        threads: int = THREADS,
    ) -> None:
        """`runs`: what runs a shard, by the hash that the record of its run stands in, or `REVERSE`."""
        self._services = services
        self._runs = runs
        self._directory = directory
        self._threads = threads
        self._here = f"{socket.gethostname()}:{os.getpid()}"
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        #: Messages that were not worked off, because this process ends; they are put back.
        self._left: list[dict[str, Any]] = []

    @contextlib.asynccontextmanager
    async def working(self) -> Any:
        """Work off shards for as long as this lasts."""
        loop, settings = asyncio.get_running_loop(), self._services.settings
        broker = make_broker(settings.broker, on_loop=False)

        def compare_shard(shard: dict[str, Any]) -> None:
            """On a thread of dramatiq's; it waits for the shard."""
            asyncio.run_coroutine_threadsafe(self._take(shard), loop).result()

        dramatiq.actor(actor_name=_ACTOR, queue_name=SCAN_LANE, broker=broker)(compare_shard)
        worker = dramatiq.Worker(
            broker, queues={SCAN_LANE}, worker_threads=self._threads, worker_timeout=_IDLE_MS
        )
        waiting = make_patient(worker)
        # What one process has fetched, another cannot take.
        worker.queue_prefetch = self._threads
        broker.may_hold = Share(
            self._services.redis,
            self._services.queue,
            namespace=settings.broker.namespace,
            lane=SCAN_LANE,
            threads=self._threads,
        )
        # A thread for each comparison, or a few would hold up all others.
        comparing = ThreadPoolExecutor(self._threads + 8, thread_name_prefix="compare")
        loop.set_default_executor(comparing)
        signs = asyncio.create_task(self._give_signs(broker.broker_id))

        async def stop() -> None:
            self._stopping = True
            await end(signs, *self._running)
            waiting.hurry()
            await asyncio.to_thread(worker.stop, int(_STOP_S * 1000))
            broker.close()
            await self._put_back()

        try:
            await to_the_end(asyncio.to_thread(worker.start))
            yield
        finally:
            # Threads that were left would take shards as long as the process lives.
            await to_the_end(stop())

    async def _put_back(self) -> None:
        """Leave to others at once what this process took; without it, it is sent again some seconds later."""
        try:
            while self._left:
                await self._services.queue.enqueue_order(SCAN_LANE, _ACTOR, self._left.pop())
        except BrokerUnavailable as error:
            log.warning("shards_not_put_back", shards=len(self._left) + 1, error=str(error))

    async def _take(self, message: dict[str, Any]) -> None:
        """Run the shard that a message names, where there is still something to run."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._run(message)
        except (RedisError, OSError) as error:
            log.warning("shard_not_run", shard=message.get("shard"), error=str(error))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            self._left.append(message)
        finally:
            self._running.discard(task)

    async def _run(self, message: dict[str, Any]) -> None:
        if self._stopping:
            self._left.append(message)
            return
        if message.get("v") != _VERSION:
            log.warning("shard_message_not_read", version=message.get("v"))
            return
        services, run = self._services, str(message["run"])
        namespace = services.settings.broker.namespace
        records = str(message.get("records", "scans"))
        if records not in self._runs:
            log.warning("shard_message_not_read", records=records)
            return
        scan = await ScanStates(services.redis, namespace=namespace, records=records).get(
            str(message["scan"])
        )
        if scan is None or scan.run != run or scan.phase not in ACTIVE:
            return
        kind = self._runs[REVERSE if scan.options.reverse else records]
        states = ShardStates(services.redis, namespace=namespace, run=run)
        shard = await states.get(states.name(int(message["shard"])))
        if shard is not None and shard.phase not in {"done", "failed"}:
            await kind(services, states, shard, directory=self._directory).run()

    async def _give_signs(self, broker_id: str) -> None:
        """Say that this process lives, to dramatiq as well, which itself says so only when it fetches."""
        services = self._services
        namespace = services.settings.broker.namespace
        while True:
            try:
                await services.queue.heartbeat(broker_id, member=f"scan:{os.getpid()}")
                await say_working(services.redis, namespace, self._here, self._threads)
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=str(error))
            await asyncio.sleep(_SIGN_EVERY_S)
