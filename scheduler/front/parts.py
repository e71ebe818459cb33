"""What the handlers of one gateway share.

Owns the record of a front process's parts, how they are put together, and their life.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from scheduler.front.pull.absent import AbsentCache
from scheduler.front.pull.admission import Admission
from scheduler.front.pull.afterwards import Afterwards
from scheduler.front.pull.claim import FrontClaims
from scheduler.front.pull.herd import Herd
from scheduler.front.pull.jobs import Jobs
from scheduler.front.pull.pump import Pump
from scheduler.front.pull.spool import Spool
from scheduler.front.pull.tee import Tee
from scheduler.front.stats import GatewayStats
from workers.ledger.claims import FRONT

if TYPE_CHECKING:
    import asyncio

    from scheduler.config.settings import GatewaySettings
    from scheduler.rules.in_force.retired import RetiredRules
    from scheduler.runtime import Services
    from workers.origin.control.control import OriginControl
    from workers.origin.fetch.fetcher import Fetcher
    from workers.store.client import ObjectStore

#: Share of the process's memory that running pulls may keep for their readers.
_MEMORY_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one front process."""

    settings: GatewaySettings
    store: ObjectStore
    fetcher: Fetcher
    control: OriginControl
    claims: FrontClaims
    herd: Herd
    pump: Pump
    absent: AbsentCache
    admission: Admission
    jobs: Jobs
    stats: GatewayStats
    retired: RetiredRules
    #: Identity of the installation in `X-Ferryman-Hop` (H11).
    installation: str
    #: Keys whose origin is being asked for a range for the first time; the others wait to see what it can.
    ranges_opening: dict[tuple[str, str], asyncio.Event] = field(default_factory=dict)
    #: (bucket, rule) -> loop time until which its origins are taken to know no ranges.
    no_ranges: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, services: Services) -> Self:
        """The parts over what the process works with."""
        settings = services.settings
        gateway = settings.gateway
        stats = GatewayStats(services.ledger, instance=services.instance, dependency=services.dependency)
        claims = FrontClaims(
            services.ledger.claims,
            services.ledger.failures,
            owner=f"{FRONT}{services.instance}",
            memory=settings.data_dir / "tombstoned.json",
        )
        absent = AbsentCache(gateway.absent_cache_size, clock=time.monotonic)
        jobs = Jobs(services.dispatcher, stats)
        herd = Herd(lambda fill: pump.run(fill))  # noqa: PLW0108 - the pump is made after the herd it tells
        afterwards = Afterwards(herd=herd, absent_cache=absent, jobs=jobs, stats=stats)
        pump = Pump(
            fetcher=services.fetcher,
            store=services.store,
            claims=claims,
            tee=Tee(
                store=services.store,
                claims=claims,
                spool=Spool(
                    settings.data_dir / "spool",
                    memory_bytes=settings.limits.memory_bytes // _MEMORY_SHARE,
                    disk_bytes=settings.limits.spool_bytes,
                    window_bytes=gateway.fill_memory_bytes,
                ),
                stats=stats,
                afterwards=afterwards,
                max_object_bytes=settings.limits.max_object_bytes,
            ),
            afterwards=afterwards,
            herd_wait_s=gateway.herd_wait_s,
        )
        return cls(
            settings=gateway,
            store=services.store,
            fetcher=services.fetcher,
            control=services.control,
            claims=claims,
            herd=herd,
            pump=pump,
            absent=absent,
            admission=Admission(
                per_client=gateway.misses_per_client_per_s,
                overall=gateway.misses_per_s,
                clock=time.monotonic,
            ),
            jobs=jobs,
            stats=stats,
            retired=services.rules.retired,
            installation=services.installation,
        )

    def start(self) -> None:
        """Begin what runs beside requests."""
        self.claims.start()
        self.stats.start()

    async def close(self, drain_s: float) -> None:
        """Let pulls end within `drain_s` seconds; what is left over goes to the queue."""
        await self.herd.close(drain_s)
        await self.jobs.close(min(5.0, drain_s))
        await self.claims.close()
        await self.stats.close()
