"""Two conditions of the gate: nobody needed the origin for a while, and somebody was looking all that while.

Owns how the records of fronts, consumers and workers are read for that. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.logs.board import consumers
from workers.ledger import needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from scheduler.rules.model import Rule
    from scheduler.runtime import Services

#: Minutes that the newest records may be behind: a minute is written when it has begun.
_LATE_MINUTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of the gate."""

    name: str
    ok: bool
    #: What was found.
    evidence: str
    #: What to do when it does not hold.
    remedy: str = ""
    #: A warning does not close the gate.
    warning: bool = False


async def quiet(
    services: Services, bucket: str, rules: Iterable[Rule], *, quiet_s: float, now: float
) -> Condition:
    """No miss needed an origin during the quiet period.

    For a front that is a miss that it answered from an origin, or sent there. For logs and events it is a
    pull that found the key there: what they ask for and no origin has (bots never end) needs none.
    """
    names = {rule.name for rule in rules}
    fronts = await _fronts(services, bucket, names)
    pulls = [
        (one.last, one.pulls)
        for one in await needed.read(services.redis, services.ledger.namespace, bucket, now=now)
        if one.rule in names
    ]
    served, pulled = (
        sum(number for moment, number in found if moment > now - quiet_s) for found in (fronts, pulls)
    )
    last = max((moment for moment, _ in [*fronts, *pulls]), default=0)
    when = f"the last {ago(now - last)}" if last else "none on record"
    return Condition(
        name="no_misses",
        ok=served + pulled == 0,
        evidence=f"{served} misses answered from the origin and {pulled} keys pulled for logs and events "
        f"in the last {period(quiet_s)}; {when}",
        remedy=f"wait, and see who still asks: ferryman report --bucket {bucket}",
    )


async def _fronts(services: Services, bucket: str, rules: Collection[str]) -> list[tuple[int, int]]:
    """Of each minute in which a front needed an origin: (unix seconds by which the last came, number)."""
    found: list[tuple[int, int]] = []
    minutes = services.ledger.minutes
    for watcher in await minutes.watchers():
        if not watcher.startswith("front:"):
            continue
        for minute, counts in (await minutes.read(watcher)).items():
            served = sum(counts.get(f"origin|{bucket}|{rule}", 0) for rule in rules)
            if served:
                last = max((counts.get(f"last|{bucket}|{rule}", 0) for rule in rules), default=0)
                found.append((last or (minute + 1) * 60, served))
    return found


async def watched(services: Services, scan: str, *, quiet_s: float, now: float) -> Condition:
    """Somebody was watching all the time: every watcher's minutes are there, and the ledger is old enough."""
    minutes = services.ledger.minutes
    born = await minutes.born()
    # The minute before, too: in the one after a gap a clock may have been set that was behind until then.
    first, last = int((now - quiet_s) // 60) - 1, int(now // 60) - _LATE_MINUTES
    problems: list[str] = []
    if born > now - quiet_s:
        problems.append(f"the ledger is only {max(0.0, now - born):.0f} s old")
    watchers = await minutes.watchers()
    ended = await minutes.ended()
    if not set(watchers) - ended:
        problems.append("no front and no consumer is watching")
    for watcher in sorted(watchers):
        written = await minutes.read(watcher)
        if not written:
            continue
        begun = max(first, min(written))
        until = max(written) if watcher in ended else last
        gaps = [minute for minute in range(begun, until + 1) if minute not in written]
        if gaps:
            since = ago(now - gaps[0] * 60)
            problems.append(f"{watcher}: {len(gaps)} minutes without a record, the first {since}")
        elif watcher not in ended and max(written) < last:
            problems.append(f"{watcher}: silent, last seen {ago(now - max(written) * 60)}")
    for instance, state in (await consumers(services.redis, namespace=services.ledger.namespace)).items():
        if f"consumer:{instance}" not in ended:
            problems += [
                f"consumer:{instance}: behind for {file['lag_s']:.0f} s in {file['path']}"
                for file in state.get("files", ())
                if file["lag_s"] > _LATE_MINUTES * 60
            ]
    return Condition(
        name="watched_all_the_time",
        ok=not problems,
        evidence="; ".join(problems) or f"{len(watchers)} watchers without a gap for {period(quiet_s)}",
        remedy="zero misses that nobody looked for prove nothing: wait for the quiet period again; "
        f"a watcher that is gone for good: ferryman finalize {scan} --check --forget WATCHER",
    )


def period(seconds: float) -> str:
    """A span of time for a person."""
    return f"{seconds:.0f} s" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def ago(seconds: float) -> str:
    """`5 min ago`."""
    if seconds > 10**9:
        return "never"
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"
