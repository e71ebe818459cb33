"""Sweeping multipart uploads that killed processes left open, by one process of the fleet at a time.

Owns when; what is ours and stale is `workers.store.write.sweep`'s.

Key schema (ledger database)::

    ns:sweep:<bucket>  string  who swept last; expires when it is time again
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from workers.errors import StoreError
from workers.store.write.sweep import sweep

if TYPE_CHECKING:
    from scheduler.runtime import Services

#: Seconds after which an upload that was never ended is stale: far beyond the longest transfer.
STALE_S = 86_400.0
#: Seconds between two sweeps of a bucket.
EVERY_S = 3_600
#: Seconds between looks at whether it is time.
LOOK_S = 300.0

log = structlog.get_logger(__name__)


async def sweep_when_due(services: Services, *, stale_s: float = STALE_S) -> int:
    """Sweep every bucket that nobody swept within the hour; how many uploads were aborted.

    A Redis or a store that is away is reported, and the next look comes.
    """
    aborted = 0
    for bucket in tuple(services.settings.buckets):  # others may add some meanwhile
        name = f"{services.settings.broker.namespace}:sweep:{bucket}"
        try:
            if await services.redis.set(name, services.instance, nx=True, ex=EVERY_S):
                aborted += (await sweep(services.store, bucket, older_than_s=stale_s)).aborted
        except (RedisError, OSError, StoreError) as error:
            log.warning("bucket_not_swept", bucket=bucket, error=str(error))
    return aborted


async def serve_sweeps(services: Services, stop: asyncio.Event) -> None:
    """Sweep when it is due, until `stop`."""
    while not stop.is_set():
        await sweep_when_due(services)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
