"""Everything a control-plane process works with, opened together and closed in order.

Owns the wiring: which client goes where. Commands, the front, consumers and scans take their `Services` from
here, so that each kind of process is wired in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from scheduler.dispatch.dependency import DependencyRecorder
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.rules.in_force.buckets import ServedBuckets, following_buckets
from scheduler.rules.in_force.origin_budgets import publishing_budgets
from scheduler.rules.in_force.repository import RulesRepository
from workers.back.settle import Settler
from workers.back.wire import OriginWire
from workers.back.writer import OriginWriter
from workers.background import end
from workers.errors import FerrymanError
from workers.ledger.ledger import Ledger
from workers.origin.control.control import OriginControl
from workers.origin.fetch.fetcher import Fetcher
from workers.origin.fetch.inspect import is_well
from workers.origin.wire.client import OriginClient
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.telemetry.metrics import BackCounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from scheduler.config.settings import Settings


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The clients and parts of one process."""

    settings: Settings
    #: Identity of this process in records and claims.
    instance: str
    #: Identity of the installation, sent to origins as `X-Ferryman-Hop` (H11).
    installation: str
    #: The ledger's client (answers are str).
    redis: Redis
    ledger: Ledger
    queue: JobQueue
    store: ObjectStore
    rules: RulesRepository
    dispatcher: Dispatcher
    control: OriginControl
    fetcher: Fetcher
    #: Brings a key to its origin at once (the way back).
    back: Settler
    origin_writer: OriginWriter
    dependency: DependencyRecorder
    #: `settings.buckets`, which grows while the process runs.
    buckets: ServedBuckets


@contextlib.asynccontextmanager
async def open_services(settings: Settings, *, installation: str = "") -> AsyncIterator[Services]:
    """Open what a process needs. Settings hold real endpoints: no `embedded` is left in them.

    `installation` is the identity sent to origins (H11), the same in all processes. Servers that are away are
    no error here: each client connects on first use.
    """
    async with contextlib.AsyncExitStack() as stack:
        buckets = ServedBuckets(settings.buckets)
        settings = settings.model_copy(update={"buckets": buckets})
        ledger = Ledger.open(settings.broker)
        stack.push_async_callback(ledger.close)
        queue = JobQueue.open(settings.broker)
        stack.push_async_callback(queue.close)
        store = await stack.enter_async_context(ObjectStore(settings.store, settings.limits))
        client = await stack.enter_async_context(
            OriginClient(
                settings.origin,
                instance=installation,
                public_hosts=settings.gateway.public_hosts,
                listeners=settings.own_listeners(),
            )
        )
        control = OriginControl(settings.origin, redis=ledger.redis, namespace=settings.broker.namespace)
        control.set_probe(partial(is_well, client))
        await control.start()
        stack.push_async_callback(control.close)
        rules = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
        await rules.start()
        stack.push_async_callback(rules.close)
        await stack.enter_async_context(
            publishing_budgets(rules, control, ledger.redis, namespace=settings.broker.namespace)
        )
        await stack.enter_async_context(
            following_buckets(buckets, rules.published, partial(_make_bucket, store))
        )
        wire = await stack.enter_async_context(
            OriginWire(settings.origin, control, listeners=settings.own_listeners())
        )
        writer = OriginWriter(wire)
        dependency = DependencyRecorder(ledger.redis, namespace=settings.broker.namespace)
        stack.push_async_callback(dependency.flush)
        stack.push_async_callback(end, asyncio.create_task(dependency.run(), name="dependency"))
        yield Services(
            settings=settings,
            instance=uuid.uuid4().hex[:12],
            installation=installation,
            redis=ledger.redis,
            ledger=ledger,
            queue=queue,
            store=store,
            rules=rules,
            dispatcher=Dispatcher(
                rules=rules,
                ledger=ledger,
                queue=queue,
                buckets=buckets,
                max_depth=settings.broker.max_queue_depth,
                dependency=dependency,
            ),
            control=control,
            fetcher=Fetcher(client, control),
            back=Settler(
                ledger=ledger,
                store=store,
                writer=writer,
                owner=f"front-{uuid.uuid4().hex}",
                max_attempts=settings.limits.max_attempts,
                observer=BackCounts(),
            ),
            origin_writer=writer,
            dependency=dependency,
            buckets=buckets,
        )


async def _make_bucket(store: ObjectStore, bucket: str) -> None:
    """See that a bucket that was brought while we run is there; where it is not, requests say so."""
    try:
        await store.ensure_bucket(bucket)
    except FerrymanError as error:
        log.warning("bucket_not_checked", bucket=bucket, error=str(error))
