"""/metrics, with the states that only Redis knows brought up to date first.

Owns which states those are: queues, workers, listed failures, scans, consumers. A Redis that is away
leaves them as they were: the counters of this machine are answered all the same. Brings /healthz and
/readyz along.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response
from starlette.routing import Route

from scheduler.front.admin import health
from scheduler.status import collect
from workers.telemetry import metrics
from workers.telemetry.metric_types import flush

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from scheduler.runtime import Services
    from scheduler.status import Sources, Status

log = structlog.get_logger(__name__)


def routes(services: Services) -> list[Route]:
    """/metrics, /healthz and /readyz."""
    return [metrics_route(services), *health.routes(services)]


def metrics_route(sources: Sources, own: Callable[[], None] | None = None) -> Route:
    """/metrics: of all processes of the machine, and the states; `own` sets gauges that only we know."""

    async def answer(_: Request) -> Response:
        status = await collect(sources, reasons=False)
        if status.problems:
            log.warning("metrics_states_not_read", problems=status.problems)
        take_over(status)
        if own is not None:
            own()
        flush()
        return Response(await asyncio.to_thread(metrics.collect), media_type=metrics.CONTENT_TYPE)

    return Route("/metrics", answer)


def take_over(status: Status) -> None:
    """Set the gauges of states; parts that could not be read stay as they were."""
    for queue in status.queues:
        depth = queue.waiting + queue.delayed
        metrics.queue_state(queue.lane, depth=depth, oldest_age_s=queue.oldest_age_s)
    if "workers" not in status.problems:
        metrics.workers_alive(status.workers)
    for bucket, count in status.failures.items():
        metrics.listed_failures(bucket, count)
    for back in status.back:
        metrics.back_state(back.bucket, pending=back.pending, lag_s=back.lag_s)
    for consumer in status.consumers:
        metrics.consumer_state(
            consumer.path, lag_bytes=consumer.lag_bytes, lag_s=consumer.lag_s + consumer.silent_s
        )
    for scan in status.scans:
        if scan.shards is not None:
            slowest = scan.shards.slowest
            metrics.scan_shards(
                scan.name,
                done=scan.shards.done,
                running=scan.shards.running,
                waiting=scan.shards.waiting,
                slowest_s=slowest.active_s if slowest is not None else 0.0,
                eta_s=scan.progress.eta_s,
            )
        for part in fields(scan.total):
            if part.name != "bytes":
                metrics.scan_state(scan.name, part.name, getattr(scan.total, part.name))
