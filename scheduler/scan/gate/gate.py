"""The finalize gate: is it proved that the origin is no longer needed?

Owns the conditions, each with its evidence and what to do about it; those of time are `scan.quiet`'s. It
reads everything and changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.machine.embedded import store_identity
from scheduler.rules.model import RuleType
from scheduler.scan.gate.quiet import Condition, ago, quiet, watched
from scheduler.scan.limits import empty_is_meant
from scheduler.scan.record.account import account
from scheduler.scan.shards.view import with_shards
from scheduler.scan.unread import waived_places
from scheduler.scan.verify.report import last_report
from workers.errors import BrokerUnavailable
from workers.ledger.failures import UNREAD_PLACE
from workers.plan import Lane

if TYPE_CHECKING:
    from scheduler.rules.model import Rule, RuleSet
    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.verify.report import VerifyReport


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
    # First: what is under way now and ends meanwhile is seen in what it leaves behind.
    queues = await _queues(services)
    ruleset = await services.rules.read(bucket)
    rules = covered(ruleset, state.options.prefix)
    changed_at = await _rules_changed_at(services, bucket)
    state, shards = await with_shards(services.redis, services.settings.broker.namespace, state)
    rows = await account(state, services.ledger.outcomes)
    failures = await services.ledger.failures.count(bucket)
    waivers = await services.ledger.failures.waivers(bucket)
    waived = waived_places(waivers, state)
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
    store = store_identity(services.settings)
    moved = (
        f"scanned on the store {state.store or '(not noted)'}, which is {store} now"
        if state.store != store
        else ""
    )
    empty = total.found == 0 and not empty_is_meant(services.settings, state)
    keys = _keys(total.found, meant=empty_is_meant(services.settings, state))
    meant = (
        f"look at the inventory; if no key is meant: ferryman scan start {state.name} --allow-empty …, "
        f"or scans.{state.name}.allow_empty: true"
    )
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
            ok=state.phase == "done"
            and not (state.options.dry_run or state.options.reverse)
            and not empty
            and not moved,
            evidence=f"phase {state.phase}{', a dry run' if state.options.dry_run else ''}"
            + (", a reverse scan, which proves nothing of the store" if state.options.reverse else "")
            + (f": {state.error}" if state.error else "")
            + f"; {keys}"
            + (f"; {moved}" if moved else ""),
            remedy=meant
            if empty
            else f"ferryman scan resume {state.name}, or scan again"
            if state.phase == "failed"
            else f"ferryman scan start {state.name} … --wait",
        ),
        Condition(
            name="ranges_join",
            ok=shards.joined and not shards.flaw,
            evidence=shards.sentence,
            remedy=f"scan again: ferryman scan start {state.name} … --wait",
        ),
        Condition(
            name="scan_covers_all",
            ok=not partial,
            evidence=f"limited by {', '.join(partial)}" if partial else "no filter was used",
            remedy="scan again without these options: what they left out is not proved",
        ),
        Condition(
            name="places_read",
            ok=waived >= state.unread,
            evidence=f"{state.unread} places of the inventory could not be read, {waived} of them waived",
            remedy=f"ferryman failures list --bucket {bucket} --reason {UNREAD_PLACE}; mend the origin "
            "and scan again, leave them out (--exclude), or waive them with a reason",
        ),
        Condition(
            name="scan_newer_than_switch",
            ok=state.started_at > changed_at,
            evidence=f"scan began {ago(now - state.started_at)}, the rules changed {ago(now - changed_at)}",
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
            ok=total.skipped == 0 and total.differs == 0 and not empty,
            evidence=f"{keys}, {total.skipped} skipped, {total.differs} differ from the inventory",
            remedy=meant if empty else "scan again; --replace brings differing objects of ours up to date",
        ),
        Condition(
            name="failures_settled",
            ok=failures == 0,
            evidence=f"{failures} failures listed, {len(waivers)} waived",
            remedy=f"ferryman failures list --bucket {bucket}, then retry, or waive with a reason",
        ),
        _verified(verified, state, empty=empty, remedy_of_empty=meant),
        await quiet(services, bucket, rules, quiet_s=quiet_s, now=now),
        await watched(services, state.name, quiet_s=quiet_s, now=now),
        queues,
        Condition(
            name="inventory_knew_all",
            ok=state.extra == 0,
            warning=True,
            evidence=f"{state.extra} keys of the bucket were not in the inventory",
            remedy="keys that misses moved, or that users wrote: is the inventory complete?",
        ),
        await _way_back(services, rules, bucket),
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


def _keys(found: int, *, meant: bool) -> str:
    if found:
        return f"{found} keys in the inventory"
    said = "allow_empty says" if meant else "nobody said"
    return f"no key in the inventory, and {said} that this is meant"


def _verified(
    report: VerifyReport | None, state: ScanState, *, empty: bool, remedy_of_empty: str
) -> Condition:
    remedy = f"ferryman verify {state.name} --sample 1000"
    if report is None or report.run != state.run:
        return Condition(name="verify_clean", ok=False, evidence="this scan was not verified", remedy=remedy)
    found = ", ".join(f"{number} {finding}" for finding, number in sorted(report.counts.items()))
    how = f"{report.checked} keys by listing, {report.compared} byte by byte: {found or 'nothing found'}"
    stale = report.started_at < state.finished_at
    elsewhere = report.store != state.store
    if empty:
        remedy = remedy_of_empty
    elif not report.clean:
        remedy = f"what to do about each finding: ferryman verify {state.name}"
    return Condition(
        name="verify_clean",
        ok=report.clean and not (stale or elsewhere or empty),
        evidence=how
        + "".join(f"; not proved: {sentence}" for sentence in report.unproved)
        + ("; older than the end of the scan" if stale else "")
        + (f"; of another store, {report.store or 'not named'}" if elsewhere else ""),
        remedy=remedy,
    )


async def _way_back(services: Services, rules: list[Rule], bucket: str) -> Condition:
    """A rule that is retired takes the way back with it: that is for somebody to decide."""
    on = [rule.name for rule in rules if rule.origin.write_back != "off"]
    evidence = "no rule writes back"
    if on:
        state = await services.ledger.back.state(bucket)
        lacks = f"the origin may lack {state.pending} keys" if state.pending else "the origin lacks no write"
        evidence = f"write_back is on ({', '.join(on)}); {lacks}"
    return Condition(
        name="way_back_closed",
        ok=not on,
        warning=True,
        evidence=evidence,
        remedy="retiring the rule ends it: what the origin lacks now, and what is written from then on, "
        "never comes there, so there is no going back without moving it again; "
        "ferryman back verify shows that both sides are equal until then",
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
