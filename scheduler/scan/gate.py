"""The finalize gate: is it proved that the origin is no longer needed?

Owns the conditions, each with its evidence and what to do about it. Reads everything and changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.rules.model import RuleType
from scheduler.scan.state import account
from scheduler.scan.verify import last_report
from workers.errors import BrokerUnavailable
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scheduler.rules.model import Rule, RuleSet
    from scheduler.runtime import Services
    from scheduler.scan.state import ScanState
    from scheduler.scan.verify import VerifyReport

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All conditions of one look at the gate."""

    conditions: tuple[Condition, ...]
    #: Rules that passing the gate retires.
    rules: tuple[Rule, ...]
    version: int

    @property
    def open(self) -> bool:
        """Whether every condition holds."""
        return all(condition.ok or condition.warning for condition in self.conditions)


async def look(services: Services, state: ScanState, *, quiet_s: float, now: float | None = None) -> Verdict:
    """Judge every condition for a scan; `quiet_s` is the quiet period in seconds.

    Raises:
        BrokerUnavailable: Redis does not answer; nothing can be said.
    """
    now = time.time() if now is None else now
    bucket = state.options.bucket
    ruleset = await services.rules.read(bucket)
    rules = covered(ruleset, state.options.prefix)
    changed_at = await _rules_changed_at(services, bucket)
    rows = await account(state, services.ledger.outcomes)
    failures = await services.ledger.failures.count(bucket)
    waivers = len(await services.ledger.failures.waivers(bucket))
    verified = await last_report(services, state.name)
    total = rows[""]
    options = state.options
    partial = [
        name
        for name, used in (
            ("--include", options.include), ("--exclude", options.exclude), ("--limit", options.limit),
            ("--min-size", options.min_size is not None), ("--max-size", options.max_size is not None),
            ("--max-age", options.changed_after is not None or options.max_age_days is not None),
            ("--min-age", options.changed_before is not None or options.min_age_days is not None),
        )
        if used
    ]  # fmt: skip
    terms = f"found {total.found} = {total.present} present + {total.stored} stored + {total.absent} absent"
    terms += f" + {total.differs} differs + {total.excluded} excluded + {total.failed} failed"
    terms += f" + {total.skipped} skipped + {total.pending} pending"
    outside = [rule.name for rule in pulling(ruleset) if rule not in rules]
    conditions = [
        Condition(
            name="rule_in_force",
            ok=bool(rules),
            evidence=f"rules {', '.join(rule.name for rule in rules) or '(none)'} of bucket {bucket}",
            remedy="the scan's prefix must cover a mirror or proxy rule that is in force",
        ),
        Condition(
            name="scan_complete",
            ok=state.phase == "done" and not state.options.dry_run,
            evidence=f"phase {state.phase}{', a dry run' if state.options.dry_run else ''}",
            remedy=f"ferryman scan start {state.name} --wait",
        ),
        Condition(
            name="scan_covers_all",
            ok=not partial,
            evidence=f"limited by {', '.join(partial)}" if partial else "no filter was used",
            remedy="scan again without these options: what they left out is not proved",
        ),
        Condition(
            name="scan_newer_than_switch",
            ok=state.started_at > changed_at,
            evidence=f"scan began {_ago(now - state.started_at)}, the rules changed {_ago(now - changed_at)}",
            remedy=f"scan again: ferryman scan start {state.name} --wait",
        ),
        Condition(
            name="account_balances",
            ok=total.balanced and total.pending == 0,
            evidence=terms,
            remedy="wait for pending keys; if it stays so, scan again",
        ),
        Condition(
            name="nothing_missing",
            ok=total.skipped == 0 and total.differs == 0,
            evidence=f"{total.skipped} skipped, {total.differs} differ from the inventory",
            remedy="scan again; --replace brings differing objects of ours up to date",
        ),
        Condition(
            name="failures_settled",
            ok=failures == 0,
            evidence=f"{failures} failures listed, {waivers} waived",
            remedy=f"ferryman failures list --bucket {bucket}, then retry, or waive with a reason",
        ),
        _verified(verified, state),
        await _quiet(services, bucket, rules, quiet_s=quiet_s, now=now),
        await _watched(services, quiet_s=quiet_s, now=now),
        await _queues(services),
        Condition(
            name="inventory_knew_all",
            ok=state.extra == 0,
            warning=True,
            evidence=f"{state.extra} keys of the bucket were not in the inventory",
            remedy="keys that misses moved, or that users wrote: is the inventory complete?",
        ),
        Condition(
            name="other_rules",
            ok=not outside,
            warning=True,
            evidence=f"rules outside the scan's prefix stay: {', '.join(outside)}" if outside else "none",
            remedy="scan their prefixes, too",
        ),
    ]
    return Verdict(
        conditions=tuple(conditions), rules=tuple(rules), version=ruleset.version if ruleset else 0
    )


def pulling(ruleset: RuleSet | None) -> list[Rule]:
    """Rules that need their origin."""
    return [rule for rule in ruleset.rules if rule.type is not RuleType.REDIRECT] if ruleset else []


def covered(ruleset: RuleSet | None, prefix: str) -> list[Rule]:
    """Pulling rules of which a scan of `prefix` has seen every key."""
    return [rule for rule in pulling(ruleset) if rule.when.prefix.startswith(prefix)]


async def _rules_changed_at(services: Services, bucket: str) -> float:
    """When the present rules came into force; 0 when nobody knows."""
    history = await services.rules.history(bucket)
    return history[0].at if history else 0.0


def _verified(report: VerifyReport | None, state: ScanState) -> Condition:
    remedy = f"ferryman verify {state.name} --sample 1000"
    if report is None or report.run != state.run:
        return Condition(name="verify_clean", ok=False, evidence="this scan was not verified", remedy=remedy)
    found = ", ".join(f"{number} {finding}" for finding, number in sorted(report.counts.items()))
    how = f"{report.checked} keys by listing, {report.compared} byte by byte: {found or 'nothing found'}"
    stale = report.started_at < state.finished_at
    return Condition(
        name="verify_clean",
        ok=report.clean and not stale,
        evidence=f"{how}{'; older than the end of the scan' if stale else ''}",
        remedy=remedy,
    )


async def _quiet(
    services: Services, bucket: str, rules: Iterable[Rule], *, quiet_s: float, now: float
) -> Condition:
    """No miss was served from an origin, in any front or log, during the quiet period."""
    first = int((now - quiet_s) // 60)
    names = [rule.name for rule in rules]
    number = 0
    last = 0
    minutes = services.ledger.minutes
    for watcher in await minutes.watchers():
        for minute, counts in (await minutes.read(watcher)).items():
            served = _served(watcher, counts, bucket, names)
            if served:
                moment = _last(watcher, counts, bucket, names) or (minute + 1) * 60
                last = max(last, moment)
                number += served if minute >= first and moment > now - quiet_s else 0
    when = f"the last {_ago(now - last)}" if last else "none on record"
    return Condition(
        name="no_misses",
        ok=number == 0,
        evidence=f"{number} misses served from the origin in the last {quiet_s:.0f} s; {when}",
        remedy="wait, and see who still asks: ferryman report",
    )


def _served(watcher: str, counts: Mapping[str, int], bucket: str, rules: Iterable[str]) -> int:
    if watcher.startswith("front:"):
        return sum(counts.get(f"origin|{bucket}|{rule}", 0) for rule in rules)
    # Logs tell misses of all their buckets together: careful is right here.
    return counts.get("accepted", 0)


def _last(watcher: str, counts: Mapping[str, int], bucket: str, rules: Iterable[str]) -> int:
    """Unix seconds by which the last miss of a minute's record had come; 0 when the record does not say."""
    if watcher.startswith("front:"):
        return max((counts.get(f"last|{bucket}|{rule}", 0) for rule in rules), default=0)
    return counts.get("last", 0)


async def _watched(services: Services, *, quiet_s: float, now: float) -> Condition:
    """Somebody was watching all the time: every watcher's minutes are there, and the ledger is old enough."""
    minutes = services.ledger.minutes
    born = await minutes.born()
    first, last = int((now - quiet_s) // 60), int(now // 60) - _LATE_MINUTES
    problems: list[str] = []
    if born > now - quiet_s:
        problems.append(f"the ledger is only {now - born:.0f} s old")
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
            since = _ago(now - gaps[0] * 60)
            problems.append(f"{watcher}: {len(gaps)} minutes without a record, the first {since}")
        elif watcher not in ended and max(written) < last:
            problems.append(f"{watcher}: silent, last seen {_ago(now - max(written) * 60)}")
    return Condition(
        name="watched_all_the_time",
        ok=not problems,
        evidence="; ".join(problems) or f"{len(watchers)} watchers without a gap for {quiet_s:.0f} s",
        remedy="zero misses that nobody looked for prove nothing: wait for the quiet period again; "
        "a watcher that is gone for good: ferryman finalize --forget WATCHER",
    )


async def _queues(services: Services) -> Condition:
    try:
        depths = {lane: await services.queue.depth(lane) for lane in Lane}
    except BrokerUnavailable as error:
        return Condition(
            name="queues_empty", ok=False, evidence=str(error), remedy="bring Redis back and look again"
        )
    left = {lane: depth.waiting + depth.running + depth.delayed for lane, depth in depths.items()}
    return Condition(
        name="queues_empty",
        ok=not any(left.values()),
        evidence=", ".join(f"{lane} {number}" for lane, number in left.items()),
        remedy="wait until the workers are done; are there any? ferryman status",
    )


def _ago(seconds: float) -> str:
    if seconds > 10**9:
        return "never"
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"
