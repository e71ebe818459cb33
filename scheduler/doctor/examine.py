"""Runs every subject; one that breaks is a finding of its own.

Owns the order and which subjects need which servers. Reads, and writes only under `.ferryman/probe/` in the
store and `ferryman-doctor-probe/` through the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import structlog

from scheduler.doctor import back, configuration, gateway, limits, loops, origins, redis, rules, store
from scheduler.doctor.model import Finding, Level
from scheduler.machine.embedded import resolve_running
from scheduler.machine.processes import installation_id
from scheduler.rules.in_force.repository import RulesRepository
from workers.errors import BrokerUnavailable, ConfigError, described
from workers.ledger.ledger import Ledger
from workers.origin.control.control import OriginControl
from workers.origin.wire.client import OriginClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from scheduler.config.settings import Settings
    from scheduler.rules.model import RuleSet

log = structlog.get_logger(__name__)

#: Seconds for one subject.
SUBJECT_TIMEOUT_S = 120.0


async def examine(settings: Settings, *, urls: Sequence[str] = ()) -> list[Finding]:
    """Every finding, by subject. `urls` are objects at origins to look at closely.

    Where Redis or the store are embedded and do not run, the rest is looked at without them.
    """
    found = configuration.check(settings) + limits.check(settings)
    async with contextlib.AsyncExitStack() as stack:
        servers: list[Awaitable[list[Finding]]] = []
        in_force: dict[str, RuleSet] = {}
        ledger: Ledger | None = None
        try:
            settings = resolve_running(settings)
        except ConfigError as error:
            found.append(_not_running(error))
        else:
            ledger = Ledger.open(settings.broker)
            stack.push_async_callback(ledger.close)
            in_force = await _in_force(ledger, settings)
            servers = [
                _guarded("redis", redis.check(settings)),
                _guarded("store", store.check(settings)),
                *([_guarded("back", back.behind(ledger))] if in_force else []),
            ]
        rule_findings, sets = rules.check(settings, in_force)
        if ledger is not None:
            servers.append(_guarded("gateway", gateway.check(settings, ledger, sets)))
        client = await stack.enter_async_context(
            OriginClient(
                settings.origin,
                instance=installation_id(settings),
                public_hosts=settings.gateway.public_hosts,
                listeners=settings.own_listeners(),
            )
        )
        control = await stack.enter_async_context(
            OriginControl(
                settings.origin,
                redis=None if ledger is None else ledger.redis,
                namespace=settings.broker.namespace,
                name="doctor",
            )
        )
        parts = await asyncio.gather(
            *servers,
            _guarded("loops", loops.check(settings, sets)),
            _guarded("origins", origins.check(sets, client, control, urls=urls)),
            _guarded("back", back.check(sets, settings, control)),
        )
    of_servers, of_others = parts[: len(servers)], parts[len(servers) :]
    return [*found, *itertools.chain(*of_servers), *rule_findings, *itertools.chain(*of_others)]


def _not_running(error: ConfigError) -> Finding:
    return Finding(
        subject="embedded",
        check="running",
        level=Level.WARNING,
        message=str(error),
        remedy="Redis and store cannot be looked at: run `ferryman up`, then this again in another terminal",
    )


async def _in_force(ledger: Ledger, settings: Settings) -> dict[str, RuleSet]:
    repository = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
    try:
        await repository.refresh()
    except BrokerUnavailable:
        return {}
    return {name: found for name in repository.buckets() if (found := repository.snapshot(name)) is not None}


async def _guarded(subject: str, check: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(SUBJECT_TIMEOUT_S):
            return await check
    except TimeoutError:
        message = f"not finished within {SUBJECT_TIMEOUT_S:g} s"
    except Exception as error:
        # A check that breaks must not hide the others.
        log.exception("doctor_check_broke", subject=subject)
        message = described(error)
    remedy = "run it again with log.level: debug, and report it"
    return [Finding(subject=subject, check="examined", level=Level.FAILED, message=message, remedy=remedy)]
