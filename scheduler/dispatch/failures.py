"""Choosing among listed failures, and sending the chosen ones once more.

Owns what a selection is and how a retry is accounted. The list itself is `workers.ledger.failures`'; the way
to the queue is the dispatcher's. A key leaves the list only after the queue has it, and only if nothing new
was recorded of it meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from scheduler.misses.event import MissEvent
from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from workers.ledger.back import TOLD
from workers.ledger.failures import BACK, UNREAD_PLACE
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from scheduler.dispatch.dispatcher import Dispatcher, RuleSource
    from workers.ledger.failures import Failure
    from workers.ledger.ledger import Ledger
    from workers.plan import FetchItem, FetchPlan

_NO_KEY = "a place of an inventory, no key: scan again, or waive it"
#: A list of so many failures is shown in order; of a longer one, those that are met first.
MOST_SORTED = 10_000
#: Failures sent in one step.
_STEP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which failures; everything that is given must hold."""

    reasons: frozenset[str] = frozenset()
    rule: str | None = None
    prefix: str = ""
    keys: frozenset[str] = frozenset()
    scan: str | None = None
    #: Age in seconds of the last attempt, at least and at most.
    older_than_s: float | None = None
    newer_than_s: float | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing was given, so that all failures are meant."""
        return self == Selection()

    def holds(self, failure: Failure, now: float) -> bool:
        """Whether this failure is meant; `now` is Unix time in seconds. Pure."""
        age_s = now - failure.last_at
        return (
            (not self.reasons or failure.reason in self.reasons)
            and (self.rule is None or failure.rule == self.rule)
            and failure.key.startswith(self.prefix)
            and (not self.keys or failure.key in self.keys)
            and (self.scan is None or failure.scan == self.scan)
            and (self.older_than_s is None or age_s >= self.older_than_s)
            and (self.newer_than_s is None or age_s <= self.newer_than_s)
        )


async def selected(
    ledger: Ledger,
    buckets: Iterable[str],
    selection: Selection,
    *,
    now: float | None = None,
) -> AsyncIterator[Failure]:
    """The failures that a selection means, in no order, each once."""
    at = time.time() if now is None else now
    for bucket in buckets:
        if selection.keys:
            for key in sorted(selection.keys):
                found = await ledger.failures.get(bucket, key)
                if found is not None and selection.holds(found, at):
                    yield found
            continue
        seen: set[str] = set()  # a Redis scan may give an entry twice
        reason = min(selection.reasons) if len(selection.reasons) == 1 else ""
        listed = ledger.failures.iterate(
            bucket, reason=reason, prefix=selection.prefix, scan=selection.scan or ""
        )
        async for failure in listed:
            if failure.key not in seen and selection.holds(failure, at):
                seen.add(failure.key)
                yield failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Some of the failures that a selection means, and how many there are of each reason."""

    #: By bucket and key: the first of them, or, of very many, those that were met first.
    rows: tuple[Failure, ...]
    reasons: Counter[str]


async def shown(ledger: Ledger, buckets: Sequence[str], selection: Selection, *, most: int) -> Shown:
    """At most so many failures of a selection; a million more cost nothing where only reasons choose."""
    known = await _counted(ledger, buckets, selection)
    reasons = Counter() if known is None else known
    rows: list[Failure] = []
    enough: int | None = None
    if known is not None:
        listed = sum([await ledger.failures.count(bucket) for bucket in buckets])
        if listed > MOST_SORTED or not most:
            enough = min(most, known.total())
    if enough != 0:
        async for failure in selected(ledger, buckets, selection):
            rows.append(failure)
            if known is None:
                reasons[failure.reason] += 1
            if len(rows) == enough:
                break
            if len(rows) >= 2 * max(most, MOST_SORTED):
                rows = sorted(rows, key=_place)[:most]
    return Shown(rows=tuple(sorted(rows, key=_place)[:most]), reasons=reasons)


def _place(failure: Failure) -> tuple[str, str]:
    return failure.bucket, failure.key


async def _counted(ledger: Ledger, buckets: Sequence[str], selection: Selection) -> Counter[str] | None:
    """How many are of each reason, where that is known without a look at each."""
    if replace(selection, reasons=frozenset()) != Selection():
        return None
    sums: Counter[str] = Counter()
    for bucket in buckets:
        for reason, number in (await ledger.failures.reasons(bucket)).items():
            if not selection.reasons or reason in selection.reasons:
                sums[reason] += number
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReport:
    """What became of a selection; `retried + len(kept)` is its size."""

    #: On the queue, or on their way already by another message.
    retried: int = 0
    #: Still listed: bucket, key, and why.
    kept: tuple[tuple[str, str, str], ...] = ()

    def __add__(self, other: RetryReport) -> RetryReport:
        return RetryReport(retried=self.retried + other.retried, kept=self.kept + other.kept)


class RetryServices(Protocol):
    """What of `scheduler.runtime.Services` is needed here."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def rules(self) -> RuleSource: ...

    @property
    def dispatcher(self) -> Dispatcher: ...


async def retry(services: RetryServices, failures: Sequence[Failure]) -> RetryReport:
    """Send exactly these failures once more, by the rules of now (P33, P36).

    A failure of a scan stays in that scan's accounts, at its own place; the others are dispatched like
    events.

    Raises:
        QueueFull: the queue takes no more; what was sent before is off the list, the rest is still on it.
        BrokerUnavailable: Redis does not answer; sending all again is harmless.
    """
    report = RetryReport()
    by_bucket: dict[str, list[Failure]] = {}
    for failure in failures:
        by_bucket.setdefault(failure.bucket, []).append(failure)
    for bucket, listed in by_bucket.items():
        places = [failure for failure in listed if failure.reason == UNREAD_PLACE]
        theirs = [failure for failure in listed if failure.reason != UNREAD_PLACE]
        report += RetryReport(kept=tuple((bucket, place.key, _NO_KEY) for place in places))
        for at in range(0, len(theirs), _STEP):
            report += await _step(services, bucket, theirs[at : at + _STEP])
    return report


async def _step(services: RetryServices, bucket: str, failures: Sequence[Failure]) -> RetryReport:
    ledger = services.ledger
    versions = await ledger.failures.versions(bucket, [failure.key for failure in failures])
    present = [failure for failure in failures if failure.key in versions]
    back = [failure.key for failure in present if failure.lane == BACK]
    await ledger.back.note(bucket, back, TOLD)
    forward = [failure for failure in present if failure.lane != BACK]
    scans = [failure for failure in forward if failure.scan and failure.item is not None]
    events = [failure for failure in forward if not (failure.scan and failure.item is not None)]
    why = {failure.key: "no longer listed" for failure in failures if failure.key not in versions}
    why |= await _as_events(services, events)
    why |= await _as_scan(services, bucket, scans)
    sent = {key: version for key, version in versions.items() if key not in why}
    await ledger.failures.remove_unchanged(bucket, sent)
    return RetryReport(
        retried=len(sent),
        kept=tuple((bucket, key, reason) for key, reason in why.items()),
    )


async def _as_events(services: RetryServices, failures: Sequence[Failure]) -> dict[str, str]:
    """Dispatch as misses; for each key that was not sent, why."""
    why: dict[str, str] = {}
    for lane in Lane:
        some = [failure for failure in failures if failure.lane == lane]
        if not some:
            continue
        events = [
            MissEvent(
                bucket=failure.bucket,
                key=failure.key,
                scheme=failure.item.scheme if failure.item is not None else None,
                query=failure.item.query if failure.item is not None else "",
            )
            for failure in some
        ]
        report = await services.dispatcher.dispatch(events, lane=lane, ignore_absent=True)
        refused = dict(report.refused)
        for index, state in enumerate(report.states):
            if state not in {"accepted", "duplicate"}:
                why[some[index].key] = refused.get(index, state)
    return why


async def waive(ledger: Ledger, bucket: str, failures: Sequence[Failure], *, reason: str, by: str) -> int:
    """Accept failures for good; those of the way back are no longer wanted there. How many there were."""
    done = await ledger.failures.waive(bucket, [failure.key for failure in failures], reason=reason, by=by)
    await ledger.back.forget(bucket, [failure.key for failure in failures if failure.lane == BACK])
    return done


@dataclass(slots=True)
class _Group:
    plan: FetchPlan
    lane: Lane
    scan: str
    batch: int
    items: list[FetchItem] = field(default_factory=list)


async def _as_scan(services: RetryServices, bucket: str, failures: Sequence[Failure]) -> dict[str, str]:
    """Enqueue at their places in their scans; for each key that was not sent, why."""
    why: dict[str, str] = {}
    if not failures:
        return why
    ruleset = services.rules.snapshot(bucket)
    groups: dict[tuple[int, str, str, int], _Group] = {}
    for failure in failures:
        old = failure.item
        assert old is not None  # the caller's choice
        facts = RequestFacts(key=failure.key)
        rule = match(ruleset, facts) if ruleset is not None else None
        if ruleset is None or rule is None or rule.type is RuleType.REDIRECT or not rule.store.save:
            why[failure.key] = "unmatched"
            continue
        try:
            fetch_plan, item = plan(rule, ruleset, bucket, facts, kind="scan")
        except PlanRefused as error:
            why[failure.key] = error.reason
            continue
        lane = Lane(failure.lane)
        place = (id(fetch_plan), failure.lane, failure.scan, failure.batch)
        group = groups.setdefault(
            place,
            _Group(plan=fetch_plan, lane=lane, scan=failure.scan, batch=failure.batch),
        )
        group.items.append(
            replace(
                item,
                size=old.size,
                digest=old.digest,
                position=old.position,
                replace_etag=old.replace_etag,
            ),
        )
    for lane in {group.lane for group in groups.values()}:
        await services.dispatcher.admit(lane)
    for group in groups.values():
        await services.dispatcher.enqueue(
            group.plan,
            group.items,
            lane=group.lane,
            scan=group.scan,
            batch=group.batch,
        )
    return why
