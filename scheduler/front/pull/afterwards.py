"""What a front remembers of a pull that has ended, and what it leaves to others.

Owns who is told. Knows neither origin nor store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from scheduler.front.pull.absent import AbsentCache
    from scheduler.front.pull.fill import Fill, NotFound
    from scheduler.front.pull.herd import Herd
    from scheduler.front.pull.jobs import Jobs
    from scheduler.front.stats import GatewayStats

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """Told of each pull how it ended."""

    herd: Herd
    absent_cache: AbsentCache
    jobs: Jobs
    stats: GatewayStats

    def stored(self, bucket: str, key: str) -> None:
        """The store has it: look-ups that began earlier are not believed."""
        self.herd.stored(bucket, key)

    def absent(self, fill: Fill, found: NotFound) -> None:
        """The origin lacks it: nobody asks again for a while."""
        self.absent_cache.remember(
            fill.bucket,
            fill.key,
            rule=fill.plan.rule,
            epoch=fill.plan.epoch,
            ttl_s=fill.plan.absent_ttl_s,
            answer=found.answer if fill.keep_error_body else None,
        )

    def given_away(self, fill: Fill, reason: str) -> None:
        """It was not stored, and may be by a worker."""
        log.info("pull_given_away", bucket=fill.bucket, key=fill.key, reason=reason)
        self.stats.answered("given_away", fill.bucket, fill.plan.rule)
        # What we wrote, and did not hear of, is ours all the same (S11).
        self.jobs.offer(fill.queued_plan, replace(fill.item, tried_as=fill.attempt))
