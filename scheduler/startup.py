"""What must be so before a process serves: its buckets are there, and the rules of the file are in force.

Owns nothing else: each step belongs to the module that does it. Harmless to repeat, so every process does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from scheduler.rules.apply import apply_file_rules
from workers.errors import StoreThrottled, StoreUnavailable

if TYPE_CHECKING:
    from scheduler.runtime import Services

log = structlog.get_logger(__name__)


async def make_ready(services: Services, *, who: str) -> None:
    """Create missing buckets, prove what the store honours in each, publish the configuration's rules.

    A store or a Redis that is away is no error: requests say so one by one until it is back.

    Raises:
        StoreDenied: the store refuses our credentials.
        DocumentError: a rule of the configuration is wrong.
    """
    for bucket in services.settings.buckets:
        try:
            await services.store.ensure_bucket(bucket)
            # Proven before the first client waits for it, and refused credentials are told at start.
            await services.store.guarantees(bucket)
        except (StoreUnavailable, StoreThrottled) as error:
            log.warning("bucket_not_checked", bucket=bucket, error=str(error))
    await apply_file_rules(services.rules, services.settings, who=who)
