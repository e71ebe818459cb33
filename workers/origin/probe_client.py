"""Asking a probe URL (B10) with the origin client: its guard, deadlines and markers hold for probes too."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workers.origin.probes import PROBE_TIMEOUT_S
from workers.plan import FetchPlan, Origin, OriginGroup, Timeouts

if TYPE_CHECKING:
    from workers.origin.client import OriginClient
    from workers.origin.probes import Probe


def prober(client: OriginClient) -> Probe:
    """A probe over `client`: True for 2xx and 3xx; redirects are not followed."""

    async def probe(url: str, trusted: bool) -> bool:
        parts = urlsplit(url)
        origin = Origin(host=parts.netloc.lower(), scheme="https" if parts.scheme == "https" else "http")
        plan = FetchPlan(
            bucket="",
            rule="probe",
            groups=(OriginGroup(primary=origin),),
            timeouts=Timeouts(
                connect_s=PROBE_TIMEOUT_S, first_byte_s=PROBE_TIMEOUT_S, idle_s=PROBE_TIMEOUT_S
            ),
            trusted_hosts=trusted,
        )
        answer = await client.ask(plan, origin, url, follow_redirects=False)
        await answer.drain()
        return 200 <= answer.status < 400

    return probe
