"""Traffic that was, under two rule sets: what a change of rules would alter. PURE.

Owns the comparison behind `ferryman explain --replay`; events come from whoever reads the log.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.planning import PlanRefused, origin_url, plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.misses.event import MissEvent
    from scheduler.rules.model import RuleSet

#: Examples kept of each kind of change.
MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a rule set does with one miss, as far as it can differ."""

    #: Name of the rule; empty when none answers.
    rule: str = ""
    #: mirror, proxy, redirect, none, or refused.
    action: str = "none"
    url: str = ""
    saves: bool = False

    def label(self) -> str:
        """Short form for a table of counts."""
        return f"{self.action} by {self.rule}" if self.rule else self.action


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One miss that would be answered otherwise."""

    key: str
    before: Decision
    after: Decision


@dataclass(slots=True, kw_only=True)
class Replay:
    """The difference over all misses."""

    total: int = 0
    same: int = 0
    #: (before, after) as labels; a changed URL under the same rule has `, other URL` behind the second.
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)


def decide(ruleset: RuleSet | None, event: MissEvent) -> Decision:
    """What a rule set does with a miss."""
    if ruleset is None:
        return Decision()
    facts = RequestFacts(
        key=event.key,
        method=event.method,
        status=event.status,
        headers=event.headers,
        host=event.host,
        scheme=event.scheme,
        query=event.query,
    )
    rule = match(ruleset, facts)
    if rule is None:
        return Decision()
    try:
        fetch, item = plan(rule, ruleset, event.bucket, facts, kind="event")
    except PlanRefused:
        return Decision(rule=rule.name, action="refused")
    url = origin_url(fetch.groups[0].primary, item)
    return Decision(rule=rule.name, action=rule.type.value, url=url, saves=rule.store.save)


def replay(before: RuleSet | None, after: RuleSet | None, events: Iterable[MissEvent]) -> Replay:
    """Compare the decisions of two rule sets over misses of one bucket."""
    found = Replay()
    for event in events:
        found.total += 1
        old, new = decide(before, event), decide(after, event)
        if old == new:
            found.same += 1
            continue
        label = new.label() + (", other URL" if old.label() == new.label() else "")
        change = (old.label(), label)
        found.changes[change] += 1
        examples = found.examples.setdefault(change, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(Example(key=event.key, before=old, after=new))
    return found
