"""What the handlers of one gateway share, and what they are asked for.

Owns two records: the parts of a front process, and the target of a request. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from scheduler.config.settings import GatewaySettings
    from scheduler.front.pull.absent import AbsentCache
    from scheduler.front.pull.admission import Admission
    from scheduler.front.pull.claim import FrontClaims
    from scheduler.front.pull.herd import Herd
    from scheduler.front.pull.jobs import Jobs
    from scheduler.front.pull.pump import Pump
    from scheduler.front.stats import GatewayStats
    from workers.origin.control.control import OriginControl
    from workers.origin.fetch.fetcher import Fetcher
    from workers.store.client import ObjectStore


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
    #: Identity of the installation in `X-Ferryman-Hop` (H11).
    installation: str
    #: Keys whose origin is being asked for a range for the first time; the others wait to see what it can.
    ranges_opening: dict[tuple[str, str], asyncio.Event] = field(default_factory=dict)
    #: (bucket, rule) -> loop time until which its origins are taken to know no ranges.
    no_ranges: dict[tuple[str, str], float] = field(default_factory=dict)
