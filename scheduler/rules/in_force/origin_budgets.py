"""Budgets that rules give their origins (F53), told to every process of the fleet.

Owns the way from the rule sets in memory to the key that workers read. A change of a rule's budget counts for
jobs that are queued already (P36): workers look once a second. Of several rules that name one host, the
strictest value of each kind holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from workers.background import end
from workers.errors import BrokerUnavailable
from workers.origin.control.fleet import Fleet
from workers.origin.control.rule_budgets import BucketBudgets, encode, merge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.model import RuleSet
    from workers.origin.control.control import OriginControl
    from workers.settings import BudgetSettings

log = structlog.get_logger(__name__)

#: Seconds between two looks at the rule sets.
EVERY_S: Final = 1.0


def budgets_of(ruleset: RuleSet) -> dict[str, tuple[BudgetSettings, ...]]:
    """The budgets that a rule set gives, by host: primaries and standbys of each rule that has one."""
    found: dict[str, dict[str, BudgetSettings]] = {}
    for rule in ruleset.rules:
        budget = rule.origin.budget
        if budget is not None:
            for group in rule.origin.hosts:
                for origin in (group.primary, *group.standbys):
                    found.setdefault(origin.host, {})[budget.model_dump_json()] = budget
    return {host: tuple(budgets.values()) for host, budgets in sorted(found.items())}


def budgets_in_force(rules: RulesRepository) -> dict[str, BucketBudgets]:
    """What the rule sets in memory give, by bucket."""
    sets = [found for name in rules.buckets() if (found := rules.snapshot(name)) is not None]
    return {found.bucket: BucketBudgets(version=found.version, budgets=budgets_of(found)) for found in sets}


def take_budgets(rules: RulesRepository, control: OriginControl) -> None:
    """Hold this process to the budgets of its rules at once, not with the next round."""
    control.set_rule_budgets(merge(budgets_in_force(rules).values()))


class BudgetPublisher:
    """Keeps the fleet's budgets as the rule sets say; harmless to run in every control-plane process."""

    def __init__(
        self, rules: RulesRepository, control: OriginControl, redis: Redis, *, namespace: str
    ) -> None:
        self._rules = rules
        self._control = control
        self._fleet = Fleet(redis, namespace=namespace, process="budgets")
        self._away = False

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self.once()
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """Apply here what the rule sets say, and publish what is newer than the fleet's."""
        wanted = budgets_in_force(self._rules)
        self._control.set_rule_budgets(merge(wanted.values()))
        try:
            published = await self._fleet.rule_budgets()
            for bucket, budgets in wanted.items():
                known = published.get(bucket)
                if (known is None and budgets.budgets) or (
                    known is not None and known.version < budgets.version
                ):
                    await self._fleet.set_rule_budgets(bucket, encode(budgets))
            if self._rules.synced:
                for bucket in published.keys() - wanted.keys():
                    await self._fleet.set_rule_budgets(bucket, None)
            self._away = False
        except BrokerUnavailable as error:
            if not self._away:
                log.warning("rule_budgets_not_published", error=str(error))
            self._away = True


@contextlib.asynccontextmanager
async def publishing_budgets(
    rules: RulesRepository, control: OriginControl, redis: Redis, *, namespace: str
) -> AsyncIterator[None]:
    """Run a `BudgetPublisher` while the block runs; the first round is done before it begins."""
    publisher = BudgetPublisher(rules, control, redis, namespace=namespace)
    await publisher.once()
    task = asyncio.create_task(publisher.run(), name="rule-budgets")
    try:
        yield
    finally:
        await end(task)
