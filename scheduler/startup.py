"""What must be so before a process serves: its buckets are there, and the rules of the file are in force.

Owns nothing else: each step belongs to the module that does it. Harmless to repeat, so every process does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.rules.apply import apply_file_rules

if TYPE_CHECKING:
    from scheduler.runtime import Services


async def make_ready(services: Services, *, who: str) -> None:
    """Create missing buckets (unless `store.create_buckets` is off) and publish the configuration's rules.

    Raises:
        StoreDenied, StoreUnavailable, ConfigError, BrokerUnavailable: as the steps do.
    """
    if services.settings.store.create_buckets:
        for bucket in services.settings.buckets:
            await services.store.ensure_bucket(bucket)
    await apply_file_rules(services.rules, services.settings, who=who)
