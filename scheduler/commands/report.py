"""`ferryman report`: who still needs the origin."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.command_line import (
    CommandFailed,
    config_option,
    echo_json,
    json_option,
    load,
    run_async,
    say,
)

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.dispatch.dependency import Dependency

_PERIODS = {"1h": 3600.0, "24h": 86_400.0, "7d": 604_800.0}
_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN = 10


@click.command("report")
@click.option("--bucket", help="Only this bucket; default: all configured ones.")
@click.option("--since", type=click.Choice(list(_PERIODS)), default="24h", show_default=True)
@config_option
@json_option
def command(bucket: str | None, *, since: str, config: Path | None, as_json: bool) -> None:
    """Show which prefixes, referrers and user agents still caused misses that an origin served."""
    settings = load(config)
    if bucket is not None and bucket not in settings.buckets:
        known = ", ".join(sorted(settings.buckets)) or "none"
        raise CommandFailed(f"no bucket {bucket!r} is configured; known: {known}", exit_code=2)
    buckets = [bucket] if bucket is not None else sorted(settings.buckets)
    reports = run_async(_read(settings, buckets, _PERIODS[since]))
    if as_json:
        echo_json([_json(report) for report in reports])
        return
    for report in reports:
        _print(report, since)


async def _read(settings: Settings, buckets: list[str], period_s: float) -> list[Dependency]:
    from scheduler.dispatch.dependency import dependency
    from scheduler.runtime import open_services

    async with open_services(settings) as services:
        namespace = settings.broker.namespace
        return [
            await dependency(services.redis, name, namespace=namespace, period_s=period_s) for name in buckets
        ]


def _json(report: Dependency) -> dict[str, Any]:
    return asdict(report)


def _print(report: Dependency, since: str) -> None:
    say(f"bucket {report.bucket}: {report.misses} misses served from the origin in the last {since}")
    if not report.misses:
        return
    highest = max(number for _, number in report.curve)
    bars = "".join(_BARS[_rounded_up(number * (len(_BARS) - 1), highest)] for _, number in report.curve)
    say(f"  by hour, oldest first: {bars}  (highest {highest})")
    if report.expected_zero is None:
        say("  expected to end: the curve does not fall yet, or is too short to say")
    else:
        moment = dt.datetime.fromtimestamp(report.expected_zero, dt.UTC)
        say(f"  expected below one an hour: {moment:%Y-%m-%d %H:00} UTC, if it goes on like this")
    for title, rows in (
        ("prefix", report.prefixes), ("referrer", report.referrers), ("user agent", report.agents),
    ):  # fmt: skip
        say(f"  by {title}")
        for name, number in rows[:_SHOWN]:
            say(f"    {number:>8}  {name}")


def _rounded_up(part: int, whole: int) -> int:
    """`part / whole`, rounded up, so that a single miss shows."""
    return -(-part // whole)
