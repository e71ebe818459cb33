"""What must be so before a process serves: its buckets are there, and the rules of the file are in force.

Owns who may put a file's rules in force: processes that run on do, at their start; commands that come and go
use what is in force, whatever file they happen to stand beside, and `difference_to_file` lets them say so.
Each step itself belongs to the module that does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.rules.in_force.apply import apply_file_rules, read_file_rules
from scheduler.rules.in_force.origin_budgets import take_budgets
from scheduler.rules.in_force.repository import VersionConflict
from scheduler.rules.in_force.retired import rule_digest
from workers.errors import BrokerUnavailable, StoreThrottled, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.config.settings import Settings
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.model import Rule
    from scheduler.runtime import Services

log = structlog.get_logger(__name__)


async def make_ready(services: Services, *, who: str) -> None:
    """For a process that runs on: make and probe its buckets, put the file's rules in force.

    A store or a Redis that is away is no error: requests say so one by one until it is back.

    Raises:
        StoreDenied: the store refuses our credentials.
        DocumentError: a rule of the configuration is wrong.
    """
    for bucket in tuple(services.settings.buckets):  # others may add some meanwhile
        await make_bucket(services, bucket)
    await apply_file_rules(services.rules, services.settings, who=who)
    take_budgets(services.rules, services.control)


async def make_bucket(services: Services, bucket: str) -> None:
    """Create a configured bucket if it is missing, and prove what the store honours in it.

    Raises:
        StoreDenied: the store refuses our credentials.
    """
    try:
        await services.store.ensure_bucket(bucket)
        # Proven before the first client waits for it, and refused credentials are told at start.
        await services.store.guarantees(bucket)
    except (StoreUnavailable, StoreThrottled) as error:
        log.warning("bucket_not_checked", bucket=bucket, error=str(error))


async def publish_first_rules(
    repository: RulesRepository, settings: Settings, *, who: str
) -> tuple[str, ...]:
    """Put the file's rules in force for buckets that never had any; those buckets.

    For workers: where nothing but workers and commands runs nobody else would, and a worker whose file is
    older than the front's must not bring back what was changed since.

    Raises:
        DocumentError: a rule of the configuration is wrong.
    """
    rulesets, _ = read_file_rules(settings)
    published: list[str] = []
    for bucket, ruleset in rulesets.items():
        try:
            if await repository.history(bucket):
                continue
            await repository.replace(
                bucket, ruleset.rules, owner="file", who=who, how="configuration file", expected_version=0
            )
        except (BrokerUnavailable, VersionConflict) as error:  # away, or another was first
            log.warning("file_rules_not_published", bucket=bucket, error=str(error))
        else:
            published.append(bucket)
    return tuple(published)


async def difference_to_file(repository: RulesRepository, settings: Settings, bucket: str) -> str | None:
    """One sentence on how the file's rules of a bucket differ from those in force; None when they do not.

    Raises:
        DocumentError: a rule of the configuration is wrong.
    """
    section = settings.buckets.get(bucket)
    if section is None or section.rules is None:
        return None  # the file says nothing of this bucket's rules
    wanted = read_file_rules(settings)[0][bucket].rules
    in_force = await repository.read(bucket)
    if in_force is None:
        return f"no rules of bucket {bucket} are in force, though the configuration has {_number(wanted)}"
    try:
        wanted = await repository.retired.kept(bucket, wanted)
    except (RedisError, OSError) as error:
        log.warning("retired_rules_not_read", bucket=bucket, error=str(error))
    if list(map(rule_digest, wanted)) == list(map(rule_digest, in_force.rules)):
        return None
    return (
        f"the configuration read here has other rules for bucket {bucket} ({_number(wanted)}) "
        f"than those in force (version {in_force.version}, {_number(in_force.rules)})"
    )


def _number(rules: Sequence[Rule]) -> str:
    names = ", ".join(rule.name for rule in rules[:5]) + (", …" if len(rules) > 5 else "")
    return f"{len(rules)}: {names}" if rules else "none"
