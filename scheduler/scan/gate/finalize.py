"""Finalizing a migration: retire the rules that the gate lets go, with a report; and the way back.

Owns the change and the report. The gate's judgement is `scheduler.scan.gate.gate`'s; only it, or an override
that the report records, marks a rule finalized (guarantee 7).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import structlog
from redis.exceptions import RedisError

from scheduler.config.admin_token import token_of
from scheduler.scan.gate.gate import look
from scheduler.scan.gate.report_page import page
from scheduler.scan.limits import empty_is_meant
from scheduler.scan.record.account import account
from scheduler.scan.shards.view import with_shards
from scheduler.scan.verify.report import last_report, verify_to_json
from workers.errors import BrokerUnavailable, ConfigError, TransferError
from workers.ledger.failures import failure_to_json

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.gate.gate import Verdict
    from scheduler.scan.record.state import ScanState

#: Names of options whose values stay out of the report; those of files are no secret.
_SECRET = re.compile(r"(secret|password|token)(?!.*_file$)", re.IGNORECASE)
#: Where reports stand in the bucket; never served by the gateway.
REPORT_PREFIX = ".ferryman/reports/"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """What finalizing came to."""

    verdict: Verdict
    #: Names of the rules that were retired; empty with `keep_rule`, or when the gate stayed shut.
    retired: tuple[str, ...]
    #: Files of the report, JSON and HTML; empty when none was written.
    reports: tuple[str, ...]
    report: dict[str, Any]


async def finalize(
    services: Services,
    state: ScanState,
    *,
    quiet_s: float,
    who: str,
    keep_rule: bool = False,
    override: str = "",
) -> Finalized:
    """Look at the gate, and when it is open retire the rules and write the report.

    `keep_rule` is the way of partial traffic: everything is proved and reported, the rules stay. `override`
    is the reason for passing a gate that is shut; it stands in the report.

    Raises:
        BrokerUnavailable: Redis does not answer; nothing was changed.
        ConfigError: `override` without any rule to retire.
    """
    verdict = await look(services, state, quiet_s=quiet_s)
    passed = verdict.open or bool(override)
    if not passed:
        return Finalized(verdict=verdict, retired=(), reports=(), report={})
    if not verdict.rules:
        msg = f"no rule of bucket {state.options.bucket} is covered by the scan: there is nothing to finalize"
        raise ConfigError(msg)
    now = time.time()
    stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{state.name}-{stamp}"
    report = await _report(services, state, verdict, now=now, who=who, keep_rule=keep_rule, override=override)
    report |= {"name": name, "quiet_s": quiet_s}
    _sign(report, services)
    reports = await _write(services, state.options.bucket, name, report)
    retired: tuple[str, ...] = ()
    if not keep_rule:
        retired = await _retire(services, state.options.bucket, verdict, who=who, report=name, now=now)
    log.info("finalized", scan=state.name, bucket=state.options.bucket, retired=retired, who=who)
    return Finalized(verdict=verdict, retired=retired, reports=reports, report=report)


async def _retire(
    services: Services, bucket: str, verdict: Verdict, *, who: str, report: str, now: float
) -> tuple[str, ...]:
    ruleset = await services.rules.read(bucket)
    if ruleset is None or ruleset.version != verdict.version:
        msg = f"the rules of {bucket} changed while the gate was looked at; look again"
        raise ConfigError(msg)
    names = {rule.name for rule in verdict.rules}
    left = tuple(rule for rule in ruleset.rules if rule.name not in names)
    try:
        # The marks first: a file that is applied in between must not bring the rules back.
        await services.rules.retired.set_share(bucket, 0)
        await services.rules.retired.mark(
            bucket, verdict.rules, by=who, at=now, report=report, version=ruleset.version
        )
        await services.rules.replace(
            bucket,
            left,
            owner=ruleset.owner,
            who=who,
            how=f"finalized: report {report}",
            source=ruleset.source,
            website=ruleset.website,
            expected_version=ruleset.version,
        )
    except (RedisError, OSError) as error:
        msg = f"ledger: {error}"
        raise BrokerUnavailable(msg) from error
    return tuple(sorted(names))


async def rollback(services: Services, state: ScanState, *, who: str) -> tuple[str, ...]:
    """Bring back the rules that finalizing retired; their names.

    Raises:
        ConfigError: none of the bucket's rules is retired, or their version is no longer in the history.
        BrokerUnavailable: Redis does not answer.
    """
    bucket = state.options.bucket
    try:
        retired = await services.rules.retired.read(bucket)
        if not retired:
            msg = f"no rule of bucket {bucket} was retired"
            raise ConfigError(msg)
        version = max(mark.version for mark in retired.values())
        history = await services.rules.history(bucket)
        past = next((change.ruleset for change in history if change.version == version), None)
        if past is None:
            msg = f"version {version} of the rules of {bucket} is no longer in the history; put them again"
            raise ConfigError(msg)
        current = await services.rules.read(bucket)
        standing = {rule.name for rule in current.rules} if current else set()
        rules = tuple(rule for rule in past.rules if rule.name in retired or rule.name in standing)
        await services.rules.retired.unmark(bucket, list(retired))
        await services.rules.retired.set_share(bucket, 0)
        await services.rules.replace(
            bucket,
            rules,
            owner=past.owner,
            who=who,
            how=f"finalize rolled back to {version}",
            source=past.source,
            website=past.website,
        )
    except (RedisError, OSError) as error:
        msg = f"ledger: {error}"
        raise BrokerUnavailable(msg) from error
    return tuple(sorted(retired))


async def _report(
    services: Services,
    state: ScanState,
    verdict: Verdict,
    *,
    now: float,
    who: str,
    keep_rule: bool,
    override: str,
) -> dict[str, Any]:
    bucket = state.options.bucket
    state, shards = await with_shards(services.redis, services.settings.broker.namespace, state)
    rows = await account(state, services.ledger.outcomes)
    verified = await last_report(services, state.name)
    waivers = await services.ledger.failures.waivers(bucket)
    counts = await services.ledger.outcomes.counts(bucket)
    return {
        "at": dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds"),
        "who": who,
        "bucket": bucket,
        "scan": state.name,
        "run": state.run,
        "decision": "rules kept (partial traffic)" if keep_rule else "rules retired",
        "gate_open": verdict.open,
        "override": override,
        "allow_empty": empty_is_meant(services.settings, state),
        "rules": [rule.name for rule in verdict.rules],
        "rules_version": verdict.version,
        "conditions": [asdict(condition) for condition in verdict.conditions],
        "ranges": {
            "joined": shards.joined,
            "proof": shards.sentence,
            "ranges": [[one.begin, one.end, one.found] for one in shards.ranges],
        },
        "account": {group or "(all)": asdict(row) for group, row in rows.items()},
        "outcomes": {f"{rule} {what}": number for (rule, what), number in sorted(counts.items())},
        "store": await _store(services, bucket),
        "verify": verify_to_json(verified) if verified is not None else None,
        "waivers": [
            {
                "key": waiver.key,
                "reason": waiver.reason,
                "by": waiver.by,
                "at": waiver.at,
                "failure": failure_to_json(waiver.failure),
            }
            for waiver in waivers
        ],
        # Secrets are SecretStr and dump as asterisks; access keys and tokens never leave the process.
        "configuration": _masked(services.settings.model_dump(mode="json")),
    }


async def _store(services: Services, bucket: str) -> list[str]:
    """What the store was proved to honour, and what it does not, in sentences."""
    try:
        return list((await services.store.guarantees(bucket)).lines())
    except TransferError as error:
        return [f"warning: not known, the store cannot be asked: {error}"]


def _masked(value: Any) -> Any:
    """The same without what an inventory of a scan may hold in plain text: secrets, also those in URLs."""
    if isinstance(value, dict):
        return {
            name: "**********" if inner and _SECRET.search(str(name)) else _masked(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(one) for one in value]
    if isinstance(value, str) and "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError:  # nobody can say where a password would stand in it
            return "**********"
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "**********" if parts.query else "", ""))
    return value


def _sign(report: dict[str, Any], services: Services) -> None:
    """Add the digest of the report, and an HMAC with the admin token, wherever that is kept."""
    body = orjson.dumps(report, option=orjson.OPT_SORT_KEYS)
    report["sha256"] = hashlib.sha256(body).hexdigest()
    secret = token_of(services.settings).encode()
    report["hmac_sha256"] = hmac.new(secret, body, hashlib.sha256).hexdigest()


async def _write(services: Services, bucket: str, name: str, report: dict[str, Any]) -> tuple[str, ...]:
    """Write the report locally and into the bucket; a store that refuses it does not undo anything."""
    directory: Path = services.settings.data_dir / "reports"
    directory.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    for suffix, kind, body in (
        ("json", "application/json", orjson.dumps(report, option=orjson.OPT_INDENT_2)),
        ("html", "text/html; charset=utf-8", page(report).encode()),
    ):
        path = directory / f"{name}.{suffix}"
        path.write_bytes(body)
        files.append(str(path.absolute()))  # no I/O but the working directory
        target = services.settings.report_bucket or bucket
        try:
            await services.store.put_small(target, f"{REPORT_PREFIX}{name}.{suffix}", body, content_type=kind)
        except TransferError as error:
            log.warning("report_not_in_bucket", bucket=target, report=path.name, error=str(error))
        else:
            files.append(f"s3://{target}/{REPORT_PREFIX}{name}.{suffix}")
    return tuple(files)
