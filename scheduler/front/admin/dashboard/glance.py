"""What the first screen says: a headline in words, and the numbers behind it. PURE.

Owns the words and the reckoning: how much is moved of what is known to exist, what needs a person, and when
the origin could be switched off. Knows nothing of HTML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scheduler.config.quantity import duration, plain_number
from scheduler.dispatch.dependency import Decay, fitted
from workers.ledger.history import summed
from workers.origin.control.latency import sparse_percentile_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.scan.record.account import Account
    from scheduler.status import Status
    from workers.ledger.history import Sample

#: Hours without an answer of an origin after which it is not needed any more, as far as one can see.
QUIET_HOURS = 24
#: Minutes whose answers the latencies of the first screen are of.
LATELY_MIN = 15
_NARROW = "\u202f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Of the keys that scans know: the latest scan of each bucket counts."""

    known: int = 0
    in_store: int = 0
    absent: int = 0
    failed: int = 0
    pending: int = 0

    @property
    def share(self) -> float | None:
        """Part of what the origin has that is in the store, 0 to 1; None when nobody has counted."""
        wanted = self.known - self.absent
        return min(1.0, self.in_store / wanted) if wanted > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstByte:
    """How long clients waited for first bytes in the last minutes; times in seconds, None for no answer."""

    kind: str
    answers: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginRow:
    """One origin on the first screen."""

    host: str
    #: As `workers.origin.control.health.State` names it.
    state: str
    #: Its part of all origins' answers, and of its budget (of requests at once) that is in use, 0 to 1.
    share: float | None
    budget_used: float | None
    in_flight: int
    limit: int | None
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """The first screen."""

    #: Unix time in seconds at which all of it was read.
    at: float
    #: What whoever set this up wants said, such as which installation it is (`admin.notice`).
    notice: str
    headline: str
    #: What to do first, in order; empty when nothing is.
    advice: tuple[str, ...]
    moved: Moved
    failures: int
    stored: int
    stored_bytes: int
    #: Objects and bytes a second over the last minutes; None without two samples.
    objects_per_s: float | None
    bytes_per_s: float | None
    #: Unix time at which the origin is expected not to be needed any more; None when nobody can say.
    ends_at: float | None
    #: The exponential through the hours' misses, if they fall.
    decay: Decay | None
    lanes: tuple[str, ...]
    first_bytes: tuple[FirstByte, ...]
    #: Those first that are not well, then those that answer most.
    origins: tuple[OriginRow, ...]
    minutes: tuple[Sample, ...] = field(repr=False)
    hours: tuple[Sample, ...] = field(repr=False)


def glance(status: Status, minutes: Sequence[Sample], hours: Sequence[Sample], *, notice: str = "") -> Glance:
    """The first screen of a status and the samples of the last two days and of the last month."""
    moved = moved_of(status)
    failures = sum(status.failures.values())
    curve = [(one.at, one.origin) for one in hours]
    decay = fitted(curve, now=status.at)
    ends_at = _ends_at(status, decay)
    objects_per_s, bytes_per_s = _rates(minutes)
    return Glance(
        at=status.at,
        notice=notice,
        headline=_headline(status, moved, failures, hours, ends_at),
        advice=tuple(_advice(status, failures)),
        moved=moved,
        failures=failures,
        stored=sum(rule.counts.get("stored", 0) for rule in status.rules),
        stored_bytes=sum(rule.counts.get("bytes", 0) for rule in status.rules),
        objects_per_s=objects_per_s,
        bytes_per_s=bytes_per_s,
        ends_at=ends_at,
        decay=decay,
        lanes=tuple(queue.lane for queue in status.queues),
        first_bytes=_first_bytes(status.at, minutes),
        origins=_origins(status),
        minutes=tuple(minutes),
        hours=tuple(hours),
    )


def moved_of(status: Status) -> Moved:
    """The sum over buckets, of each the scan that knows the most keys."""
    best: dict[str, Account] = {}
    for scan in status.scans:
        if scan.bucket not in best or scan.total.found > best[scan.bucket].found:
            best[scan.bucket] = scan.total
    totals = list(best.values())
    return Moved(
        known=sum(total.found - total.excluded for total in totals),
        in_store=sum(total.present + total.stored + total.differs for total in totals),
        absent=sum(total.absent for total in totals),
        failed=sum(total.failed for total in totals),
        pending=sum(total.pending for total in totals),
    )


def _headline(
    status: Status, moved: Moved, failures: int, hours: Sequence[Sample], ends_at: float | None
) -> str:
    if {"workers", "queues"} <= set(status.problems):
        return "Redis does not answer: this is what was known before"
    parts = []
    if moved.share is not None:
        shown = f"{moved.share * 100:.0f}" if moved.share < 0.995 or moved.share == 1 else "over 99"
        parts.append(f"{shown}{_NARROW}% moved")
    elif any(rule.counts.get("stored") for rule in status.rules):
        parts.append(
            f"{plain_number(sum(rule.counts.get('stored', 0) for rule in status.rules))} objects moved"
        )
    else:
        parts.append("Nothing moved yet")
    if failures:
        parts.append(f"{plain_number(failures)} {'key needs' if failures == 1 else 'keys need'} you")
    if not status.workers and "workers" not in status.problems:
        parts.append("no worker runs")
    quiet = _quiet_hours(hours, status.at)
    if quiet is not None and quiet >= QUIET_HOURS:
        parts.append(f"the origin was not needed for {duration(quiet * 3600)}")
    elif ends_at is not None:
        parts.append(f"origin could be switched off {_day(ends_at, status.at)}")
    return ", ".join(parts)


def _advice(status: Status, failures: int) -> list[str]:
    found = []
    if status.problems:
        found.append(f"Not read: {', '.join(sorted(status.problems))}.")
    if not status.workers and "workers" not in status.problems:
        found.append("No worker gives a sign of life: start `ferryman worker`.")
    out = [origin.host for origin in status.origins if origin.state.value != "well"]
    if out:
        found.append(f"Not asked now: {', '.join(out)}.")
    if failures:
        found.append("Look at the failures: each has a reason and a remedy.")
    behind = [consumer.path for consumer in status.consumers if consumer.lag_s + consumer.silent_s > 300]
    if behind:
        found.append(f"Minutes behind: {', '.join(behind)}.")
    stuck = [scan.name for scan in status.scans if scan.phase == "failed"]
    if stuck:
        found.append(f"Ended early: scan {', '.join(stuck)}.")
    if not status.scans and "scans" not in status.problems:
        found.append("Start a scan: it counts what there is and moves what nobody asks for.")
    return found


def _ends_at(status: Status, decay: Decay | None) -> float | None:
    """When both are over: the misses, by their decay, and the scans that run, by their rate."""
    running = [scan.progress.eta_s for scan in status.scans if scan.progress.eta_s is not None]
    scans_end = status.at + max(running) if running else None
    misses_end = max(decay.ends_at, status.at) if decay is not None else None
    known = [end for end in (scans_end, misses_end) if end is not None]
    return max(known) if known else None


def _quiet_hours(hours: Sequence[Sample], now: float) -> float | None:
    """Hours since an origin was needed; None when no hour was watched."""
    if not hours:
        return None
    needed = [one.at for one in hours if one.origin]
    return (now - (needed[-1] + 3600 if needed else hours[0].at)) / 3600


def _first_bytes(now: float, minutes: Sequence[Sample]) -> tuple[FirstByte, ...]:
    """Of the last quarter of an hour."""
    counts = summed(
        *(one.first_bytes for one in minutes[-LATELY_MIN:] if one.at >= now - LATELY_MIN * 60 - 120)
    )
    return tuple(
        FirstByte(
            kind=kind,
            answers=sum(counts.get(kind, {}).values()),
            p50_s=sparse_percentile_s(counts.get(kind, {}), 0.5),
            p99_s=sparse_percentile_s(counts.get(kind, {}), 0.99),
        )
        for kind in ("hit", "miss")
    )


def _origins(status: Status) -> tuple[OriginRow, ...]:
    answers = sum(one.answers for one in status.origins)
    ordered = sorted(status.origins, key=lambda one: (one.state.value == "well", -one.answers, one.host))
    return tuple(
        OriginRow(
            host=one.host,
            state=one.state.value,
            share=one.answers / answers if answers else None,
            budget_used=min(1.0, one.in_flight / one.concurrency) if one.concurrency else None,
            in_flight=one.in_flight,
            limit=one.concurrency,
            p50_s=one.p50_s,
            p99_s=one.p99_s,
        )
        for one in ordered
    )


def _rates(minutes: Sequence[Sample]) -> tuple[float | None, float | None]:
    last = minutes[-6:]
    if len(last) < 2:
        return None, None
    seconds = last[-1].at - last[0].at
    objects = max(0, last[-1].stored - last[0].stored)
    n_bytes = max(0, last[-1].stored_bytes - last[0].stored_bytes)
    return objects / seconds, n_bytes / seconds


def _day(at: float, now: float) -> str:
    left = at - now
    if left < 3600:
        return "within the hour"
    if left < 20 * 3600:
        return f"in {duration(left)}"
    day = datetime.fromtimestamp(at, UTC)
    return f"on {day:%A}" if left < 6 * 86_400 else f"about {day.day} {day:%B}"
