"""`ferryman failures`: the list of what could not be moved, and what to do about it.

Owns the options and how the list looks. What a selection is and how a retry is accounted:
`scheduler.dispatch.failures`.
"""

from __future__ import annotations

import csv
import io
import re
import time
from typing import TYPE_CHECKING, Any, TextIO

import click

from scheduler.commands.command_line import (
    EXIT_FAILED,
    CommandFailed,
    config_option,
    echo_json,
    failure,
    json_option,
    load,
    run_async,
    say,
)
from scheduler.dispatch.failures import Selection, retry, selected, shown
from scheduler.dispatch.failures import waive as waive_all
from workers.errors import BrokerUnavailable, ConfigError, QueueFull
from workers.ledger.failures import failure_to_json
from workers.plan import unlistable
from workers.telemetry.log import json_text, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.dispatch.failures import Shown
    from workers.ledger.failures import Failure
    from workers.ledger.ledger import Ledger

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(\d+)([smhd])")
_COLUMNS = ("bucket", "key", "reason", "rule", "tries", "last_at", "message")


def _age(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r}: a number and s, m, h or d is expected, such as 2h")
    return float(int(found[1]) * _UNITS[found[2]])


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a selection; the command gets them in `filters`."""
    options = (
        click.option("--bucket", "buckets", multiple=True, help="Only this bucket; repeatable."),
        click.option("--reason", "reasons", multiple=True, help="Such as origin_timeout; repeatable."),
        click.option("--rule", help="Only failures of this rule."),
        click.option("--prefix", default="", help="Only keys that start with this."),
        click.option("--key", "keys", multiple=True, help="Only this very key; repeatable."),
        click.option("--scan", help="Only failures of this scan run."),
        click.option("--older-than", callback=_age, metavar="TIME", help="Last tried before, such as 2h."),
        click.option("--newer-than", callback=_age, metavar="TIME", help="Last tried since, such as 30m."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _selection(filters: dict[str, Any]) -> Selection:
    return Selection(
        reasons=frozenset(filters["reasons"]),
        rule=filters["rule"],
        prefix=filters["prefix"],
        keys=frozenset(filters["keys"]),
        scan=filters["scan"],
        older_than_s=filters["older_than"],
        newer_than_s=filters["newer_than"],
    )


def _buckets(settings: Settings, wanted: tuple[str, ...]) -> list[str]:
    unknown = [bucket for bucket in wanted if bucket not in settings.buckets]
    if unknown:
        known = ", ".join(sorted(settings.buckets)) or "none"
        raise failure(ConfigError(f"bucket {unknown[0]!r} is not configured; known: {known}"))
    return list(wanted) or sorted(settings.buckets)


def _with_ledger(settings: Settings, work: Callable[[Ledger], Awaitable[Any]]) -> Any:
    from redis.exceptions import RedisError

    from workers.ledger.ledger import Ledger

    async def main() -> Any:
        ledger = Ledger.open(settings.broker)
        try:
            return await work(ledger)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error
        finally:
            await ledger.close()

    return run_async(main())


def _read(config: Path | None, filters: dict[str, Any]) -> list[Failure]:
    """The chosen failures by bucket and key."""
    settings = load(config)
    buckets = _buckets(settings, filters["buckets"])
    selection = _selection(filters)

    async def work(ledger: Ledger) -> list[Failure]:
        found = [one async for one in selected(ledger, buckets, selection)]
        return sorted(found, key=lambda one: (one.bucket, one.key))

    rows: list[Failure] = _with_ledger(settings, work)
    return rows


@click.group()
def command() -> None:
    """List, show, export, retry or waive what could not be moved."""


@command.command(name="list")
@_filters
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Lines to show.")
@config_option
@json_option
def list_(limit: int, config: Path | None, as_json: bool, **filters: Any) -> None:
    """List failures in order, with a count of each reason; of more than 10,000 those that are met first."""
    settings = load(config)
    buckets, selection = _buckets(settings, filters["buckets"]), _selection(filters)
    found: Shown = _with_ledger(
        settings, lambda ledger: shown(ledger, list(dict.fromkeys(buckets)), selection, most=limit)
    )
    rows, reasons, count = found.rows, found.reasons, found.reasons.total()
    if as_json:
        listed = [failure_to_json(row) for row in rows]
        echo_json({"count": count, "reasons": dict(reasons.most_common()), "failures": listed})
        return
    now = time.time()
    for row in rows:
        what = f"{row.reason:<22} {row.rule:<16} {row.tries:>3}x"
        say(f"{_ago(now - row.last_at):>6}  {what}  {row.bucket}/{one_line(row.key)}")
    if count > len(rows):
        say(f"… and {count - len(rows)} more; --limit shows them, `export` writes all", err=True)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    say(f"{count} failure(s)" + (f": {summary}" if summary else ""), err=True)


@command.command()
@click.argument("bucket")
@click.argument("key")
@config_option
@json_option
def show(bucket: str, key: str, config: Path | None, as_json: bool) -> None:
    """Show one failure with the way that was taken."""
    settings = load(config)
    _buckets(settings, (bucket,))

    async def work(ledger: Ledger) -> Failure | None:
        return await ledger.failures.get(bucket, key)

    found: Failure | None = _with_ledger(settings, work)
    if found is None:
        raise CommandFailed(f"{bucket}/{key} is not in the list of failures")
    if as_json:
        echo_json(failure_to_json(found))
        return
    say(f"key      {found.bucket}/{one_line(found.key)}")
    say(f"reason   {found.reason}")
    say(f"message  {found.message}")
    say(f"rule     {found.rule}" + (f"   scan {found.scan}" if found.scan else ""))
    say(f"tries    {found.tries}, lane {found.lane}")
    say(f"first    {_stamp(found.first_at)}   last {_stamp(found.last_at)}")
    for attempt in found.attempts:
        result = attempt.error or f"status {attempt.status}"
        say(f"  asked  {attempt.origin}: {result} after {attempt.duration_s:.3f} s")


@command.command()
@_filters
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "csv", "keys"]),
    default="ndjson",
    show_default=True,
    help="`keys` is one key a line, as `--manifest` of a scan reads it.",
)
@click.option("--output", type=click.File("w", encoding="utf-8", atomic=True), default="-", help="A file.")
@config_option
@json_option
def export(form: str, output: TextIO, config: Path | None, as_json: bool, **filters: Any) -> None:
    """Write the chosen failures to a file, every one of them; --json writes one array."""
    rows = _read(config, filters)
    shown = printable if output.isatty() else str
    if as_json:
        output.write(f"{json_text([failure_to_json(row) for row in rows])}\n")
    elif form == "ndjson":
        output.writelines(f"{json_text(failure_to_json(row))}\n" for row in rows)
    elif form == "keys":
        named = [row for row in rows if unlistable(row.key) is None]
        output.writelines(f"{shown(row.key)}\n" for row in named)
        if len(named) < len(rows):
            left = len(rows) - len(named)
            say(f"{left} key(s) have control characters, which no line can name: see ndjson", err=True)
        rows = named
    else:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows([getattr(row, column) for column in _COLUMNS] for row in rows)
        output.write(shown(text.getvalue()))
    say(f"{len(rows)} failure(s) written", err=True)


@command.command(name="retry")
@_filters
@click.option("--all", "everything", is_flag=True, help="Needed when nothing else chooses.")
@config_option
@json_option
def retry_(everything: bool, config: Path | None, as_json: bool, **filters: Any) -> None:
    """Send exactly the chosen failures once more, by the rules of now."""
    settings = load(config)
    buckets = _buckets(settings, filters["buckets"])
    selection = _selection(filters)
    _must_choose(selection, everything=everything or bool(filters["buckets"]))

    async def work() -> tuple[int, tuple[tuple[str, str, str], ...]]:
        from redis.exceptions import RedisError

        from scheduler.runtime import open_services

        try:
            async with open_services(settings) as services:
                rows = [one async for one in selected(services.ledger, buckets, selection)]
                report = await retry(services, rows)
                return report.retried, report.kept
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error

    try:
        retried, kept = run_async(work())
    except QueueFull as error:
        raise CommandFailed(f"{error}; what was not sent is still listed: retry later") from error
    if as_json:
        rows = [{"bucket": bucket, "key": key, "why": why} for bucket, key, why in kept]
        echo_json({"retried": retried, "kept": rows})
    else:
        say(f"{retried} sent to the queue, {len(kept)} kept in the list")
        for bucket, key, why in kept:
            say(f"  {bucket}/{one_line(key)}: {why}", err=True)
    if kept:
        raise SystemExit(EXIT_FAILED)


@command.command()
@_filters
@click.option("--all", "everything", is_flag=True, help="Needed when nothing else chooses.")
@click.option("--because", required=True, help="Why it is accepted; said in the report of the migration.")
@click.option("--by", default="operator", show_default=True, help="Who accepts it.")
@config_option
@json_option
def waive(
    everything: bool, because: str, by: str, config: Path | None, as_json: bool, **filters: Any
) -> None:
    """Accept the chosen failures for good: the gate no longer counts them."""
    settings = load(config)
    buckets = _buckets(settings, filters["buckets"])
    selection = _selection(filters)
    _must_choose(selection, everything=everything)

    async def work(ledger: Ledger) -> int:
        done = 0
        for bucket in buckets:
            rows = [one async for one in selected(ledger, [bucket], selection)]
            done += await waive_all(ledger, bucket, rows, reason=because, by=by)
        return done

    done: int = _with_ledger(settings, work)
    if as_json:
        echo_json({"waived": done})
    else:
        say(f"{done} failure(s) waived")


def _must_choose(selection: Selection, *, everything: bool) -> None:
    if selection.everything and not everything:
        raise failure(ConfigError("nothing is chosen; give a filter such as --reason, or --all"))


def _ago(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:.0f}{name}"
    return f"{max(seconds, 0):.0f}s"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
