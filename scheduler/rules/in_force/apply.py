"""Rules that stand in the configuration file: read, and put in force.

Owns the way from `buckets.<name>.rules` to the repository, at start, on SIGHUP and by `ferryman rules apply`.
All documents are read before the first is applied: one mistake in the file changes nothing. A bucket whose
rules are no longer in the file loses them, because the file was their owner, and belongs to the API from then
on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.rules.in_force.redis_sets import OwnedByFile
from scheduler.rules.listable.access import BucketAccess
from scheduler.rules.problems import DocumentError, Problem, ReadOptions
from scheduler.rules.yaml import document
from workers.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.config.settings import Settings
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.model import Owner, RuleSet
    from workers.settings import CredentialSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What came of applying the file: bucket names, sorted, and the warnings of all documents."""

    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    #: No longer in the file.
    withdrawn: tuple[str, ...] = ()
    #: In force in this process only: Redis does not answer, they follow when it does.
    held: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


def read_options(settings: Settings, bucket: str, *, owner: Owner, request_host: str = "") -> ReadOptions:
    """What reading a rule document of a bucket depends on, beside the document."""
    return ReadOptions(
        bucket=bucket,
        owner=owner,
        public_hosts=settings.gateway.public_hosts,
        request_host=request_host,
        allow_networks=settings.origin.allow_networks,
        credentials={name: found.access_key_id for name, found in settings.origin.credentials.items()},
        bucket_credentials=frozenset(
            name for name, found in settings.origin.credentials.items() if found.type == "s3v4"
        ),
        union=bucket_access(settings.origin.credentials) if _is_union(settings, bucket) else None,
        redirect_code_with_mirror=settings.compat.redirect_code_with_mirror,
    )


def require_api_owned(settings: Settings, bucket: str) -> None:
    """What the file says of a bucket counts before its rules have reached Redis, too.

    Raises:
        OwnedByFile: the file has rules for the bucket (SEMANTICS.md W9).
    """
    section = settings.buckets.get(bucket)
    if section is not None and section.rules is not None:
        raise OwnedByFile(bucket)


def bucket_access(credentials: Mapping[str, CredentialSettings]) -> dict[str, BucketAccess]:
    """What the configuration says of the buckets behind its credentials of type `s3v4`."""
    return {
        name: BucketAccess(addressing=found.addressing, listing_order=found.listing_order)
        for name, found in credentials.items()
        if found.type == "s3v4"
    }


def _is_union(settings: Settings, bucket: str) -> bool:
    section = settings.buckets.get(bucket)
    return section is not None and section.list == "union"


def read_file_rules(settings: Settings) -> tuple[dict[str, RuleSet], tuple[Problem, ...]]:
    """The rule sets of all buckets that the file owns, with the warnings. Pure.

    Raises:
        DocumentError: with the problems of all buckets.
    """
    found: dict[str, RuleSet] = {}
    warnings: list[Problem] = []
    problems: list[Problem] = []
    more = 0
    for bucket, section in settings.buckets.items():
        if section.rules is None:
            continue
        options = read_options(settings, bucket, owner="file")
        try:
            ruleset, notes = document.read_rules(section.rules, options, path=f"buckets.{bucket}.rules")
        except DocumentError as error:
            problems += error.problems
            more += error.more
            continue
        found[bucket] = ruleset
        warnings += notes
    if problems:
        raise DocumentError(problems, more=more)
    return found, tuple(warnings)


async def apply_file_rules(
    repository: RulesRepository,
    settings: Settings,
    *,
    who: str = "file",
    how: str = "configuration file",
    withdraw: bool = True,
) -> Applied:
    """Put the file's rules in force; what is the same already stays untouched. New buckets are served, too.

    Without Redis they are in force in this process at once, and everywhere when Redis is back. `withdraw` is
    for files that speak for the whole installation: buckets that such a file no longer names lose theirs.

    Raises:
        DocumentError: a document of the file is wrong; nothing was changed.
    """
    rulesets, warnings = read_file_rules(settings)
    await repository.published.publish(settings.buckets, withdraw=withdraw)
    changed: list[str] = []
    unchanged: list[str] = []
    held: list[str] = []
    gone: list[str] = []
    for bucket, ruleset in rulesets.items():
        try:
            rules = await repository.retired.kept(bucket, ruleset.rules)
            if len(rules) < len(ruleset.rules):
                names = [rule.name for rule in ruleset.rules if rule not in rules]
                log.info("rules_stay_retired", bucket=bucket, rules=names)
            replaced = await repository.replace(bucket, rules, owner="file", who=who, how=how)
        except (BrokerUnavailable, RedisError, OSError):
            repository.hold(bucket, ruleset.rules, who=who, how=how)
            held.append(bucket)
        else:
            (changed if replaced.changed else unchanged).append(bucket)
    try:
        if withdraw:
            gone = [bucket for bucket in await repository.owned_by_file() if bucket not in rulesets]
        for bucket in gone:
            await repository.delete(bucket, owner="file", who=who, how=f"{how}: no rules any more")
    except BrokerUnavailable as error:
        log.warning("file_rules_not_compared", error=str(error))
    applied = Applied(
        changed=tuple(sorted(changed)),
        unchanged=tuple(sorted(unchanged)),
        withdrawn=tuple(gone),
        held=tuple(sorted(held)),
        warnings=warnings,
    )
    for warning in warnings:
        log.warning("rule_document_warning", warning=str(warning))
    log.info(
        "file_rules_applied",
        changed=applied.changed,
        unchanged=len(unchanged),
        withdrawn=applied.withdrawn,
        held=applied.held,
    )
    return applied
