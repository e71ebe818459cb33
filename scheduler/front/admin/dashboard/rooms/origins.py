"""The room of origins: budgets by the hour of every host that rules, budgets or processes know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services
    from workers.origin.control.limits import Limits

NOTHING: dict[str, Any] = {"budgets": [], "credentials": [], "hour": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Hours of today from `first` up to `end` (not in it) with the same limits."""

    first: int
    end: int
    limits: Limits


async def origins(services: Services, request: Request) -> dict[str, Any]:
    """Of each host with a budget the limits over today, by this machine's clock."""
    del request
    named = {
        origin.host
        for bucket in services.rules.buckets()
        if (ruleset := services.rules.snapshot(bucket)) is not None
        for rule in ruleset.rules
        for group in rule.origin.hosts
        for origin in (group.primary, *group.standbys)
    }
    now = datetime.now().astimezone()
    hosts = sorted(named | (services.settings.origin.budgets.keys() - {"default"}))
    budgets = []
    for host in hosts:
        schedule = services.fetcher.control.schedule(host)
        if schedule.bounded:
            day = [schedule.at(now.replace(hour=hour, minute=0, second=0)) for hour in range(24)]
            budgets.append((host, spans(day)))
    return {
        "budgets": budgets,
        "credentials": sorted(services.settings.origin.credentials),
        "hour": now.hour,
    }


def spans(day: list[Limits]) -> list[Hours]:
    """Hours with the same limits beside each other as one."""
    found: list[Hours] = []
    for hour, limits in enumerate(day):
        if found and found[-1].limits == limits:
            found[-1] = Hours(first=found[-1].first, end=hour + 1, limits=limits)
        else:
            found.append(Hours(first=hour, end=hour + 1, limits=limits))
    return found
