"""Sorted inventories that killed runs left in the store: removed by one process of the fleet at a time.

Owns when; what is removed, and what a run that goes on with it does without it, is `published`'s: it is put
there once more.

Key schema (ledger database)::

    ns:scan-sweep:<bucket>  string  who looked last; expires when it is time again
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from scheduler.scan.compare.published import withdraw_stale
from scheduler.scan.record.state import VERIFICATIONS, ScanStates
from workers.errors import StoreError

if TYPE_CHECKING:
    from scheduler.runtime import Services

#: Seconds between two looks at a bucket, and between asking whether it is time.
EVERY_S: Final = 3_600
LOOK_S: Final = 300.0
#: Seconds after which an object is one that was left: a run may have begun after its record was looked for.
STALE_S: Final = 900.0

log = structlog.get_logger(__name__)


async def withdraw_when_due(services: Services, states: ScanStates, *, stale_s: float = STALE_S) -> int:
    """Remove what runs that are not under way have left, in every bucket that nobody looked at; how many.

    A Redis or a store that is away is reported, and the next look comes.
    """
    settings = services.settings
    removed = 0
    for bucket in {settings.report_bucket} if settings.report_bucket else set(settings.buckets):
        name = f"{settings.broker.namespace}:scan-sweep:{bucket}"
        try:
            if not await services.redis.set(name, services.instance, nx=True, ex=EVERY_S):
                continue
            under_way = {state.run for state in await states.live()}
            looking = ScanStates(services.redis, namespace=settings.broker.namespace, records=VERIFICATIONS)
            for one in await looking.live():
                if one.verification is not None:
                    under_way.add(one.verification.of)
            removed += await withdraw_stale(
                services.store, bucket, but=under_way, older_than_s=stale_s, now=time.time()
            )
        except (RedisError, OSError, StoreError) as error:
            log.warning("inventories_not_swept", bucket=bucket, error=str(error))
    if removed:
        log.info("inventories_swept", objects=removed)
    return removed


async def serve_leftovers(services: Services, states: ScanStates, stop: asyncio.Event) -> None:
    """Look when it is due, until `stop`."""
    while not stop.is_set():
        await withdraw_when_due(services, states)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
