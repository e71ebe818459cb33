"""`ferryman back`: could one go back to the origins now, and are they equal? (docs: Going back)"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.command_line import (
    EXIT_FAILED,
    config_option,
    echo_json,
    failure,
    json_option,
    load,
    run_async,
    say,
)
from workers.errors import BrokerUnavailable, ConfigError
from workers.telemetry.log import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.back.state import BackStatus
    from scheduler.back.verify import BackReport
    from scheduler.config.settings import Settings


@click.group()
def command() -> None:
    """Say whether one could go back to the origins now, and compare both sides."""


@command.command()
@click.argument("bucket", required=False)
@click.option("--keys", is_flag=True, help="Name every key that the origin may lack, one a line.")
@config_option
@json_option
def status(bucket: str | None, keys: bool, config: Path | None, as_json: bool) -> None:
    """Say in one line for each bucket whether one could go back now, and what would be missing.

    Exit code 0 when one could, for all buckets asked for; 1 when not.
    """
    from scheduler.back.state import sentence

    settings = load(config)
    _known(settings, bucket)
    found, named = run_async(_read(settings, bucket, keys=keys))
    could = bool(found) and all(one.could_go_back for one in found)
    if as_json:
        rows = []
        for one in found:
            row: dict[str, Any] = {
                "bucket": one.bucket,
                "could_go_back": one.could_go_back,
                "rules": one.rules,
                "pending": one.pending,
                "failed": one.failed,
                "lag_s": one.lag_s,
            }
            rows.append({**row, "keys": named[one.bucket]} if keys else row)
        echo_json({"could_go_back": could, "buckets": rows})
    else:
        for one in found:
            say(sentence(one))
            for key in named.get(one.bucket, ()):
                say(f"  {one_line(key)}")
        if not found:
            of = bucket or "no bucket"
            say(f"{of}: no: no rule writes back (origin.write_back)", err=True)
    if not could:
        sys.exit(EXIT_FAILED)


@command.command()
@click.argument("bucket")
@click.option(
    "--sample", type=click.IntRange(min=1), default=1000, show_default=True, help="Keys taken by chance."
)
@click.option("--full", is_flag=True, help="Every key.")
@config_option
@json_option
def verify(bucket: str, sample: int, full: bool, config: Path | None, as_json: bool) -> None:
    """Compare the objects of BUCKET with those at their origin, byte by byte, with metadata and tags.

    Exit code 1 when something differs.
    """
    settings = load(config)
    _known(settings, bucket)
    report: BackReport = run_async(_verify(settings, bucket, None if full else sample))
    if as_json:
        echo_json(
            {
                "bucket": report.bucket,
                "clean": report.is_clean,
                "keys": report.keys,
                "compared": report.compared,
                "equal": report.equal,
                "pending": report.pending,
                "deleted": report.deleted,
                "different": report.different,
                "differences": [{"key": key, "what": what} for key, what in report.differences],
            }
        )
    else:
        for key, what in report.differences:
            say(f"  {what:<12} {one_line(key)}")
        parts = [
            f"{report.equal:,} of {report.compared:,} compared are equal (of {report.keys:,} keys)",
            f"{report.deleted:,} deleted are gone",
            f"{report.different:,} differ",
            f"{report.pending:,} are on their way",
        ]
        say(f"{report.bucket}: {', '.join(parts)}")
    if not report.is_clean:
        sys.exit(EXIT_FAILED)


async def _read(
    settings: Settings, bucket: str | None, *, keys: bool
) -> tuple[tuple[BackStatus, ...], dict[str, list[str]]]:
    from redis.exceptions import RedisError

    from scheduler.back.state import collect_back
    from scheduler.status import open_readers

    try:
        async with open_readers(settings) as sources:
            wanted = [bucket] if bucket else sorted({*settings.buckets, *sources.rules.buckets()})
            found = await collect_back(sources.ledger.back, sources.rules, wanted)
            named: dict[str, list[str]] = {}
            if keys:
                for one in found:
                    named[one.bucket] = sorted({key async for key in sources.ledger.back.keys(one.bucket)})
            return found, named
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(str(error)) from error


async def _verify(settings: Settings, bucket: str, sample: int | None) -> BackReport:
    from redis.exceptions import RedisError

    from scheduler.back.verify import verify_back
    from scheduler.rules.write_back import routes
    from scheduler.runtime import open_services

    try:
        async with open_services(settings) as services:
            ruleset = services.rules.snapshot(bucket)
            if ruleset is None or not routes(ruleset):
                raise failure(ConfigError(f"no rule of {bucket!r} writes back (origin.write_back)"))
            return await verify_back(services, bucket, sample=sample)
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(str(error)) from error


def _known(settings: Settings, bucket: str | None) -> None:
    if bucket is not None and bucket not in settings.buckets:
        known = ", ".join(sorted(settings.buckets)) or "none"
        raise failure(ConfigError(f"bucket {bucket!r} is not configured; known: {known}"))
