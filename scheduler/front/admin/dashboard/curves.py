"""The rows of numbers that the page draws as pictures and a terminal as blocks. PURE.

Owns which samples a curve shows and how they are put together. Nothing is known here of SVG or of terminals,
so that both show the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workers.ledger.history import summed
from workers.origin.control.latency import sparse_percentile_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.dispatch.dependency import Decay
    from scheduler.front.admin.dashboard.glance import Glance
    from workers.ledger.history import Sample

Values = list[float | None]
#: Minutes that the curves of latency, queues and origins look back, and that one of their points is.
RECENT_MIN: Final = 180
STEP_MIN: Final = 5
#: Hours that a picture shows behind the present one, at most.
AHEAD_H: Final = 14 * 24


def day(glance: Glance) -> list[Sample | None]:
    """The minutes of the last 24 hours, as many as a screen shows: the worst one of each five."""
    return thinned(_filled(glance.minutes[-24 * 60 :], 60, 24 * 60), 5)


def month(glance: Glance) -> list[Sample | None]:
    """The whole hours of the last 31 days."""
    return _filled([one for one in glance.hours if one.at + 3600 <= glance.at], 3600, 31 * 24)


def recent(glance: Glance) -> list[list[Sample]]:
    """The last three hours, five minutes a group; an empty group is a gap."""
    first = (int(glance.at) // 60 - RECENT_MIN) * 60
    groups: list[list[Sample]] = [[] for _ in range(RECENT_MIN // STEP_MIN)]
    for one in glance.minutes:
        at = (one.at - first) // 60 // STEP_MIN
        if 0 <= at < len(groups):
            groups[at].append(one)
    while len(groups) > 1 and not groups[0]:
        groups.pop(0)
    return groups


def hits(samples: Sequence[Sample | None]) -> Values:
    """Answers by the store."""
    return [None if one is None else float(one.hits) for one in samples]


def misses(samples: Sequence[Sample | None]) -> Values:
    """Answers that an origin was needed for."""
    return [None if one is None else float(one.origin) for one in samples]


def growth(samples: Sequence[Sample | None]) -> Values:
    """Objects stored between one sample and the next."""
    stored = [None if one is None else one.stored for one in samples]
    return [
        None if before is None or after is None else float(max(0, after - before))
        for before, after in pairwise(stored)
    ]


def waiting(groups: Sequence[Sequence[Sample]], lane: str) -> Values:
    """Messages of a lane that waited, the most of each group."""
    return [
        max((float(one.waiting[lane]) for one in group if lane in one.waiting), default=None)
        for group in groups
    ]


def first_byte(groups: Sequence[Sequence[Sample]], kind: str, share: float) -> Values:
    """Seconds within which `share` of the answers of a kind (`hit`, `miss`) began, group by group."""
    return [
        sparse_percentile_s(summed(*(one.first_bytes for one in group)).get(kind, {}), share)
        for group in groups
    ]


def origin_p99(groups: Sequence[Sequence[Sample]], host: str) -> Values:
    """First-byte p99 of one origin in seconds, the worst of each group."""
    return [
        max((p99 for one in group if host in one.origins and (p99 := one.origins[host][2]) is not None),
            default=None)
        for group in groups
    ]  # fmt: skip


def decay(glance: Glance, fit: Decay | None) -> tuple[list[Sample | None], Values]:
    """The hours with room for what is to come, and the fitted decay over all of it (empty without one)."""
    known = month(glance)
    if fit is None or not known:
        return known, []
    first = next(one.at for one in known if one is not None)
    last = first + (len(known) - 1) * 3600
    ends = fit.ends_at if glance.ends_at is None else glance.ends_at
    ahead = min(AHEAD_H, max(0, int(ends - last) // 3600 + 1))
    room = len(known) + ahead
    return [*known, *[None] * ahead], [fit.misses(first + step * 3600) for step in range(room)]


def narrowed(values: Sequence[float | None], most: int) -> Values:
    """At most so many values: of each stretch the highest one, so that no peak is lost."""
    if len(values) <= most:
        return list(values)
    cuts = [round(at * len(values) / most) for at in range(most + 1)]
    return [
        max((value for value in values[begin:end] if value is not None), default=None)
        for begin, end in pairwise(cuts)
    ]


def thinned(samples: Sequence[Sample | None], every: int) -> list[Sample | None]:
    """As many as a screen shows: of each `every` the one with the most misses."""
    if len(samples) <= 300:
        return list(samples)
    groups = (samples[at : at + every] for at in range(0, len(samples), every))
    return [max((one for one in some if one), key=lambda one: one.origin, default=None) for some in groups]


def _filled(samples: Sequence[Sample], step_s: int, most: int) -> list[Sample | None]:
    """One place a step from the first to the last sample; what nobody wrote is a gap."""
    if not samples:
        return []
    by_step = {one.at // step_s: one for one in samples}
    last = max(by_step)
    first = max(min(by_step), last - most + 1)
    while first not in by_step:
        first += 1
    return [by_step.get(at) for at in range(first, last + 1)]
