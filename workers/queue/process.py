"""The life of one worker process: clients opened on its event loop, background tasks, an orderly end.

Owns the dramatiq middleware that makes the runner before the first message and closes it after the last. No
other place in the data plane makes clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware
from redis.exceptions import RedisError

from workers.back.drain import Drain
from workers.back.settle import Settler
from workers.back.wire import OriginWire
from workers.back.writer import OriginWriter
from workers.background import end
from workers.collector import spare_what_lasts
from workers.ledger.ledger import Ledger
from workers.ledger.rule_epochs import RuleEpochs
from workers.origin.control.control import OriginControl
from workers.origin.fetch.fetcher import Fetcher
from workers.origin.fetch.inspect import is_well
from workers.origin.wire.client import OriginClient
from workers.plan import Lane
from workers.queue.leases import LeaseKeeper
from workers.queue.queue import PROMOTED_AT_ONCE, JobQueue
from workers.queue.recording import Insisting
from workers.queue.runner import BatchRunner
from workers.queue.strays import LOOK_EVERY_S, Strays
from workers.queue.waiting import PatientQueue, make_patient
from workers.store.client import ObjectStore
from workers.telemetry.metrics import BackCounts, WorkerObserver
from workers.transfer import Mover

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings import WorkerSettings

#: Seconds between looks at delayed jobs.
PROMOTE_EVERY_S = 0.5

log = structlog.get_logger(__name__)


class WorkerProcess(Middleware):
    """Opens what a worker needs on the event loop of dramatiq's AsyncIO middleware, and closes it again."""

    def __init__(self, settings: WorkerSettings, lane: Lane, *, group: str) -> None:
        """`group`: the name under which whoever started this process looks for its signs of life."""
        self._settings = settings
        self._lane = lane
        self._group = group
        self._runner: BatchRunner | None = None
        self._strays = Strays(lane)
        self._waiting: PatientQueue | None = None
        self._stack = contextlib.AsyncExitStack()

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Make the clients; AsyncIO stands before us in the list, so its loop runs already."""
        self._strays.watch(worker)
        self._waiting = make_patient(worker)
        self._on_loop(self._open(broker.broker_id))

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Begin no further item, and let threads that wait for one see that they shall end."""
        del broker, worker
        self._on_loop(self._stop())
        if self._waiting is not None:
            self._waiting.hurry()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Close the clients; AsyncIO stops its loop after us."""
        del broker, worker
        self._on_loop(self._stack.aclose())

    def before_process_message(self, broker: Any, message: Any) -> None:
        """On the thread of the message."""
        del broker
        self._strays.begins(message)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """On the thread of the message."""
        del broker, result, exception
        self._strays.ends(message)

    async def run(self, batch: Mapping[str, Any]) -> None:
        """Work off one message."""
        assert self._runner is not None
        await self._runner.run(batch)

    @staticmethod
    def _on_loop(coroutine: Any) -> None:
        thread = get_event_loop_thread()
        assert thread is not None
        thread.run_coroutine(coroutine)

    async def _open(self, broker_id: str) -> None:
        settings, stack = self._settings, self._stack
        ledger = Ledger.open(settings.broker)
        stack.push_async_callback(ledger.close)
        queue = JobQueue.open(settings.broker)
        stack.push_async_callback(queue.close)
        store = await stack.enter_async_context(ObjectStore(settings.store, settings.limits))
        client = await stack.enter_async_context(
            OriginClient(
                settings.origin,
                instance=settings.instance,
                public_hosts=settings.public_hosts,
                listeners=settings.listeners,
            )
        )
        control = OriginControl(settings.origin, redis=ledger.redis, namespace=settings.broker.namespace)
        control.set_probe(partial(is_well, client))
        await control.start()
        stack.push_async_callback(control.close)
        insist = Insisting()
        leases = LeaseKeeper(ledger.claims, owner=f"worker-{uuid.uuid4().hex}")
        self._runner = BatchRunner(
            ledger=ledger,
            queue=queue,
            mover=Mover(
                fetcher=Fetcher(client, control),
                store=store,
                now=partial(datetime.now, UTC),
                late=lambda bucket, key: insist(partial(ledger.claims.note_late, bucket, key)),
                max_object_bytes=settings.limits.max_object_bytes,
            ),
            epochs=RuleEpochs(ledger.redis, namespace=settings.broker.namespace),
            leases=leases,
            limits=settings.limits,
            observer=WorkerObserver(self._lane),
        )
        stack.push_async_callback(self._give_back, queue, broker_id)
        if self._lane is Lane.COLD:
            await self._open_the_way_back(ledger, store, control)
        tasks = (leases.run(), self._promote(queue), self._heartbeat(queue, broker_id))
        for task in (*tasks, self._look_for_strays(queue, broker_id)):
            running = asyncio.create_task(task)
            stack.push_async_callback(end, running)
        spare_what_lasts()
        log.info("worker_ready", lane=self._lane.value, pid=os.getpid())

    async def _open_the_way_back(self, ledger: Ledger, store: ObjectStore, control: OriginControl) -> None:
        """Bring what passed the gateway to its origins, beside the messages of the lane."""
        settings, stack = self._settings, self._stack
        wire = await stack.enter_async_context(
            OriginWire(settings.origin, control, listeners=settings.listeners)
        )
        settler = Settler(
            ledger=ledger,
            store=store,
            writer=OriginWriter(wire),
            owner=f"worker-{uuid.uuid4().hex}",
            max_attempts=settings.limits.max_attempts,
            observer=BackCounts(),
        )
        drain = Drain(ledger.back, settler, concurrency=settings.limits.item_concurrency)
        running = asyncio.create_task(drain.run())
        stack.push_async_callback(end, running)

    async def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()

    async def _promote(self, queue: JobQueue) -> None:
        while True:
            try:
                moved = PROMOTED_AT_ONCE
                while moved == PROMOTED_AT_ONCE:
                    moved = await queue.promote_due(self._lane)
            except (RedisError, OSError) as error:
                log.warning("delayed_jobs_not_promoted", error=str(error))
            await asyncio.sleep(PROMOTE_EVERY_S)

    async def _heartbeat(self, queue: JobQueue, broker_id: str) -> None:
        while True:
            try:
                await queue.heartbeat(broker_id, member=f"{self._group}:{os.getpid()}")
            except (RedisError, OSError) as error:
                log.warning("heartbeat_failed", error=str(error))
            await asyncio.sleep(self._settings.broker.heartbeat_timeout_s / 4)

    async def _look_for_strays(self, queue: JobQueue, broker_id: str) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._strays.look(queue, broker_id)
            except (RedisError, OSError) as error:
                log.warning("strays_not_looked_for", error=str(error))

    async def _give_back(self, queue: JobQueue, broker_id: str) -> None:
        """At the end: what was fetched and not begun need not wait for the heartbeat to be missed."""
        try:
            held = await queue.held_by(broker_id, self._lane)
            await queue.give_back(broker_id, self._lane, sorted(held - self._strays.known()))
        except (RedisError, OSError) as error:
            log.warning("messages_left_to_heartbeat", error=str(error))
