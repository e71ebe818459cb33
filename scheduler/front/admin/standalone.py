"""/metrics, /healthz and /readyz for processes without an admin side: workers, consumers, some fronts.

Owns the small application and its serving. It is started by the process that supervises workers, or
inside a consumer; metrics are those of all processes of the machine, and the states that Redis knows: an
installation without a front has its queues' depths from here. Open to whoever reaches the
address: it tells counts and host names of origins, never keys.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog

from scheduler.machine.listen import address_of, bind
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from scheduler.config.settings import Settings
    from scheduler.front.admin.health import Check
    from scheduler.machine.worker_health import WorkerGroup
    from workers.origin.control.fleet import Fleet

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    kind: Literal["front", "worker", "consumer"],
    own: Callable[[], None] | None = None,
    *,
    workers: Sequence[WorkerGroup] = (),
) -> AsyncIterator[str | None]:
    """Serve on `metrics.<kind>_listen` while the block runs; nothing when it is unset. Yields `host:port`.

    `own` sets gauges that only this process knows, before each answer. Not ready while one of `workers`
    gives no signs of life.

    Raises:
        ConfigError: the address cannot be bound.
    """
    listen: str | None = getattr(settings.metrics, f"{kind}_listen")
    if listen is None:
        yield None
        return
    # Most processes serve nothing: they start without what it takes (0.2 s).
    from starlette.applications import Starlette

    from scheduler.front.admin.health import Readiness, health_routes, redis_check, store_check
    from scheduler.front.admin.metrics import metrics_route
    from scheduler.front.http.serve import serve_admin
    from scheduler.status import open_readers
    from workers.origin.control.fleet import Fleet
    from workers.store.client import ObjectStore

    async with contextlib.AsyncExitStack() as stack:
        try:
            sock = stack.enter_context(bind(f"metrics.{kind}", listen))
        except ConfigError as error:
            raise ConfigError(f"metrics.{kind}_listen: {listen} cannot be listened on") from error
        sources = await stack.enter_async_context(open_readers(settings))
        ledger = sources.ledger
        store = await stack.enter_async_context(ObjectStore(settings.store, settings.limits))
        ready = Readiness(
            {
                "redis": redis_check(ledger.redis),
                "store": store_check(store, settings.buckets),
                "origins": _fleet_check(Fleet(ledger.redis, namespace=ledger.namespace, process="readyz")),
                **{f"workers {group.lane}": partial(group.problem, sources.queue) for group in workers},
            }
        )
        stop = asyncio.Event()
        app = Starlette(routes=[metrics_route(sources, own), *health_routes(ready)])
        task = asyncio.create_task(serve_admin(app, [sock], stop, drain_s=1.0), name="standalone")
        log.info("metrics_served", address=address_of(sock))
        try:
            yield address_of(sock)
        finally:
            stop.set()
            await asyncio.wait({task})


def _fleet_check(fleet: Fleet) -> Check:
    """At least one origin that the fleet asks is not out; none asked yet is no problem."""
    from workers.origin.control import overview
    from workers.origin.control.health import State

    async def check() -> str | None:
        known = await overview.read(fleet)
        if known and all(origin.state is State.OUT for origin in known):
            return f"every origin is out: {', '.join(origin.host for origin in known[:10])}"
        return None

    return check
