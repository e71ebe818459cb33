"""How every origin stands over the whole fleet: the processes' reports put together.

Owns the merging. Pure but for `read`, which fetches the reports; knows nothing of how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from workers.origin.control.health import State
from workers.origin.control.latency import merged, percentile_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.origin.control.fleet import Fleet
    from workers.origin.control.health import Ejection


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginOverview:
    """One host. Times in seconds; None where nobody knows, or where there is no bound."""

    host: str
    state: State
    #: While out: until the half-open probe, ejections in a row, and why.
    out_s: float | None = None
    ejections: int = 0
    cause: str | None = None
    #: The origin asked to be left alone (429, Retry-After) for this long.
    pause_s: float = 0.0
    processes: int = 0
    in_flight: int = 0
    #: Sum of the processes' adaptive limits.
    adaptive_limit: int | None = None
    #: The budget of the present hour.
    concurrency: int | None = None
    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    closed: bool = False
    #: Good answers of the last one to two minutes, and their first-byte percentiles.
    answers: int = 0
    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None


async def read(fleet: Fleet) -> list[OriginOverview]:
    """Every origin that a living process knows, by name.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    reports = [orjson.loads(body) for body in await fleet.reports()]
    return overview(reports, await fleet.out())


def overview(reports: Iterable[Mapping[str, Any]], out: Mapping[str, Ejection]) -> list[OriginOverview]:
    """Put the processes' reports together; `out` is what the fleet holds about ejections."""
    by_host: dict[str, list[Mapping[str, Any]]] = {host: [] for host in out}
    for report in reports:
        for host, row in report["hosts"].items():
            by_host.setdefault(host, []).append(row)
    return [_merge(host, rows, out.get(host)) for host, rows in sorted(by_host.items())]


def _merge(host: str, rows: list[Mapping[str, Any]], ejection: Ejection | None) -> OriginOverview:
    counts = merged(row["first_byte"] for row in rows)
    limits = [row["adaptive_limit"] for row in rows if row["adaptive_limit"] is not None]
    if ejection is not None:
        state = State.OUT if ejection.remaining_s > 0 else State.HALF_OPEN
    else:
        # Found out here, and not yet published.
        alone = {row["state"] for row in rows}
        state = State.OUT if State.OUT in alone else State.WELL
    return OriginOverview(
        host=host,
        state=state,
        out_s=round(max(0.0, ejection.remaining_s), 1) if ejection is not None else None,
        ejections=ejection.count if ejection is not None else 0,
        cause=ejection.cause.value if ejection is not None else None,
        pause_s=max((row["pause_s"] for row in rows), default=0.0),
        processes=len(rows),
        in_flight=sum(row["in_flight"] for row in rows),
        adaptive_limit=sum(limits) if limits else None,
        concurrency=_least(row["concurrency"] for row in rows),
        requests_per_s=_least(row["requests_per_s"] for row in rows),
        bytes_per_s=_least(row["bytes_per_s"] for row in rows),
        closed=any(row["closed"] for row in rows),
        answers=sum(counts),
        p50_s=percentile_s(counts, 0.5),
        p90_s=percentile_s(counts, 0.9),
        p99_s=percentile_s(counts, 0.99),
    )


def _least(values: Iterable[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)
