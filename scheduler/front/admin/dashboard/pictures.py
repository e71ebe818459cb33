"""The pictures of the first screen: samples as the rows that `chart` draws. PURE.

Owns which samples a picture shows, and how many of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from scheduler.front.admin.dashboard import chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.front.admin.dashboard.glance import Glance
    from workers.ledger.history import Sample


def pictures(glance: Glance) -> dict[str, Markup]:
    """The pictures of the first screen, by the names that its template uses."""
    whole = [one for one in glance.hours if one.at + 3600 <= glance.at]
    minutes, hours = _filled(glance.minutes[-24 * 60 :], 60, 24 * 60), _filled(whole, 3600, 31 * 24)
    day = _thinned(minutes, 5)
    return {
        "day": _drawn(_miss_curve(day, "Answers a minute by the store and with an origin, last 24 hours")),
        "month": _drawn(_miss_curve(hours, "Answers an hour by the store and with an origin, last 30 days")),
        "moved_bar": _drawn(
            chart.bar(
                (
                    ("in the store", "store", glance.moved.in_store),
                    ("on their way", "pending", glance.moved.pending),
                    ("failed", "bad", glance.moved.failed),
                    ("absent at the origin", "absent", glance.moved.absent),
                ),
                title="Keys that scans know, by where they are",
            )
        ),
        "throughput": _drawn(
            chart.spark(_growth(day), title="Objects stored, last 24 hours", width=240, height=40)
        ),
    }


def _miss_curve(samples: Sequence[Sample | None], title: str) -> str:
    return chart.lines(
        (
            chart.Line(
                name="by the store",
                kind="store",
                values=[None if one is None else float(one.hits) for one in samples],
            ),
            chart.Line(
                name="with an origin",
                kind="origin",
                values=[None if one is None else float(one.origin) for one in samples],
            ),
        ),
        title=title,
    )


def _filled(samples: Sequence[Sample], step_s: int, most: int) -> list[Sample | None]:
    """One place a step from the first to the last sample; what nobody wrote is a gap."""
    if not samples:
        return []
    by_step = {one.at // step_s: one for one in samples}
    last = max(by_step)
    first = max(min(by_step), last - most + 1)
    return [by_step.get(at) for at in range(first, last + 1)]


def _thinned(samples: Sequence[Sample | None], every: int) -> list[Sample | None]:
    """As many as a screen shows: of each `every` the one with the most misses."""
    if len(samples) <= 300:
        return list(samples)
    groups = (samples[at : at + every] for at in range(0, len(samples), every))
    return [max((one for one in some if one), key=lambda one: one.origin, default=None) for some in groups]


def _growth(samples: Sequence[Sample | None]) -> list[float | None]:
    stored = [None if one is None else one.stored for one in samples]
    return [
        None if before is None or after is None else float(max(0, after - before))
        for before, after in pairwise(stored)
    ]


def _drawn(svg: str) -> Markup:
    """A picture as it is: `chart` escapes every text in it."""
    return Markup(svg)  # noqa: S704
