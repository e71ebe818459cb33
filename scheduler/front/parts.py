"""What the handlers of one gateway share, and what they are asked for.

Owns two records: the parts of a front process, and the target of a request. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from scheduler.rules.matching import RequestFacts

if TYPE_CHECKING:
    import asyncio

    from scheduler.config.settings import BucketSettings, GatewaySettings
    from scheduler.front.http.request import Request
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object that a request asks for."""

    bucket: str
    key: str
    leading_slashes: int
    bucket_settings: BucketSettings

    @property
    def resource(self) -> str:
        """As error documents name it."""
        return f"/{self.bucket}/{self.key}"

    def facts(self, request: Request, status: int | None) -> RequestFacts:
        """What rules look at, with the status that the store gave (None: it was not asked)."""
        scheme: Literal["http", "https"] = request.client.scheme
        return RequestFacts(
            key=self.key,
            method=request.method,
            status=status,
            headers=request.headers,
            host=request.client.host_name,
            scheme=scheme,
            query=request.query,
            leading_slashes=self.leading_slashes,
        )
