"""What a window of the comparison asks for: plans of what is missing, replacements, cut into batches.

Owns the step between what was found and what is sent; it sends and counts nothing itself. Knows no Redis.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.dispatch.dispatcher import BATCH_ITEMS
from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from scheduler.scan.record.state import Counts
from workers.ledger.failures import Failure
from workers.plan import Batch, FetchItem, FetchPlan, Lane
from workers.store.metadata import is_mirrored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.rules.model import RuleSet
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanState
    from workers.store.client import ObjectStore
    from workers.store.model import ListedObject

#: Group, how and what: a key on its way to the queue.
Wanted = tuple[str, FetchPlan, FetchItem]
#: Group, what the inventory says, what is there, in what they differ.
Differing = tuple[str, "Entry", "ListedObject", str]
#: Objects looked at at once before they are replaced.
_LOOKS = 16


def refusal(state: ScanState, key: str, reason: str, message: str, rule: str = "") -> Failure:
    """The listed failure of a key that is not sent."""
    return Failure(
        bucket=state.options.bucket,
        key=key,
        reason=reason,
        message=message,
        rule=rule,
        lane=Lane.COLD.value,
        scan=state.run,
    )


def planned(
    ruleset: RuleSet | None, state: ScanState, missing: list[tuple[str, Entry]]
) -> tuple[list[Wanted], list[tuple[str, Failure]]]:
    """How to fetch the missing ones of (group, entry); and those that no rule in force pulls."""
    bucket = state.options.bucket
    wanted: list[Wanted] = []
    failures: list[tuple[str, Failure]] = []
    for group, entry in missing:
        facts = RequestFacts(key=entry.key)
        rule = match(ruleset, facts) if ruleset is not None else None
        if ruleset is None or rule is None or rule.type is RuleType.REDIRECT or not rule.store.save:
            message = "missing in the bucket, and no rule pulls it"
            failures.append((group, refusal(state, entry.key, "no_rule", message)))
            continue
        try:
            fetch_plan, item = plan(rule, ruleset, bucket, facts, kind="scan")
        except PlanRefused as error:
            failures.append((group, refusal(state, entry.key, error.reason, str(error), rule.name)))
            continue
        wanted.append((group, fetch_plan, replace(item, size=entry.size, digest=entry.digest)))
    return wanted, failures


async def replacements(
    store: ObjectStore, ruleset: RuleSet | None, state: ScanState, differs: list[Differing]
) -> tuple[list[Wanted], list[Differing]]:
    """Differing objects that are ours and unchanged since, to be replaced (S12); and the others."""
    wanted: list[Wanted] = []
    others: list[Differing] = []
    bucket = state.options.bucket
    for at in range(0, len(differs), _LOOKS):
        some = differs[at : at + _LOOKS]
        found = await asyncio.gather(*(store.head(bucket, entry.key) for _, entry, *_ in some))
        for one, info in zip(some, found, strict=True):
            group, entry, there, _ = one
            plans, _ = planned(ruleset, state, [(group, entry)])
            if info is None or not plans or not is_mirrored(info) or info.etag != there.etag:
                others.append(one)
                continue
            _, fetch_plan, item = plans[0]
            wanted.append((group, fetch_plan, replace(item, replace_etag=info.etag)))
    return wanted, others


def added(groups: dict[str, Counts], counts: dict[tuple[str, str], int]) -> dict[str, Counts]:
    """The groups with these (group, what) -> number added."""
    by_group: dict[str, dict[str, int]] = {}
    for (group, what), number in counts.items():
        by_group.setdefault(group, {})[what] = number
    result = dict(groups)
    for group, numbers in by_group.items():
        row = result.get(group, Counts())
        result[group] = replace(row, **{what: getattr(row, what) + n for what, n in numbers.items()})
    return result


def batches_of(wanted: list[Wanted], *, run: str, first: int, missing_at: float) -> Iterator[Batch]:
    """Cut into batches of one group and one plan, at most 100 items each, numbered from `first`.

    `missing_at`: Unix time at which the listing lacked the keys.
    """

    def made() -> Batch:
        assert held is not None
        return Batch(
            plan=held[1], items=tuple(items), lane=Lane.COLD, scan=run, batch=number, missing_at=missing_at
        )

    items: list[FetchItem] = []
    held: tuple[str, FetchPlan] | None = None
    number = first
    for group, fetch_plan, item in wanted:
        if held is not None and (held[0] != group or held[1] is not fetch_plan or len(items) >= BATCH_ITEMS):
            yield made()
            number += 1
            items = []
        held = (group, fetch_plan)
        items.append(replace(item, position=len(items)))
    if held is not None and items:
        yield made()
