"""`ferryman consume`: misses from access logs, as they are written or once."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from pydantic import ValidationError

from scheduler.commands.command_line import (
    EXIT_FAILED,
    config_option,
    echo_json,
    failure,
    json_option,
    load,
    run_async,
    say,
    stop_event,
)
from workers.errors import ConfigError
from workers.plan import Lane
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    from scheduler.config.settings import ConsumeSettings, Settings
    from scheduler.logs.consumer import InputSpec
    from scheduler.misses.event import MissEvent
    from scheduler.misses.refusals import Deletion

#: Counts of a summary, in the order in which they are told.
_TOLD = (
    "lines", "misses", "repeats", "accepted", "duplicate", "absent", "unmatched", "tombstoned", "refused",
    "tombstones", "would_fetch",
    "gaps",
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE…]")
@config_option
@json_option
@click.option(
    "--format", "form", metavar="F", help="Name, or a log_format/LogFormat as it is; default: auto."
)
@click.option("--field", "fields", multiple=True, metavar="OURS=THEIRS", help="Field map of --format json.")
@click.option("--bucket", metavar="B", help="Bucket of every line; default: by host, else by path.")
@click.option("--host", "hosts", multiple=True, metavar="HOST=BUCKET", help="`*.name` covers names below it.")
@click.option("--status", "statuses", multiple=True, type=click.IntRange(400, 599), help="Default: 404.")
@click.option("--head", is_flag=True, help="HEAD of a missing key is a miss too.")
@click.option("--strip-prefix", metavar="P", help="Cut from the front of the request path.")
@click.option("--include", multiple=True, metavar="REGEX", help="Only keys that match one of these.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="No keys that match one of these.")
@click.option("--no-bots", is_flag=True, help="Leave out user agents that call themselves bots.")
@click.option(
    "--from-start", "begin", flag_value="start", help="From the first line, whatever the checkpoint."
)
@click.option("--from-end", "begin", flag_value="end", help="From the end, whatever the checkpoint.")
@click.option("--once", is_flag=True, help="End at the end of the files instead of following them.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched; queue and remember nothing.")
@click.option("--replay", is_flag=True, help="Old logs, also packed: once, as cold work.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Most events a second."
)
@click.option("--name", metavar="NAME", help="Name of the checkpoint; default: made of the paths.")
def command(config: Path | None, as_json: bool, files: tuple[str, ...], **options: Any) -> None:
    """Read misses from access logs: FILEs, patterns, .gz, `-`, unix:/path or udp:host:port.

    Without FILE, the `consume:` section of the configuration. A file is taken up where the checkpoint of an
    earlier run left it; one without is followed from its end, or read from its start with --once.
    """
    from scheduler.config import secret_files

    dry = options["dry_run"]
    once = options["once"] or options["replay"] or dry
    settings = load(config, resolve=not dry, beside=True)
    log.configure(form=settings.log.format, level=settings.log.level)
    begin: Literal["start", "end"] | None = options["begin"] or ("start" if dry else None)
    try:
        if not dry:
            secret_files.require(settings)
        # Before anything is imported that counts.
        metric_files.use(settings.data_dir)
        from scheduler.logs.open import input_specs

        wanted = [_section(path, options) for path in files] or list(settings.consume)
        if not wanted:
            raise ConfigError("no FILE given, and the configuration has no `consume:` section")
        specs = input_specs(settings, wanted, begin=begin, once=once)
        if once:
            _refuse_missing(specs)
    except ConfigError as error:
        raise failure(error) from error
    work = (
        _dry(settings, specs, as_json=as_json)
        if dry
        else _consume(settings, specs, once=once, options=options)
    )
    summary = run_async(work)
    if once:
        _tell(summary, as_json=as_json)
    if summary["failed"]:
        sys.exit(EXIT_FAILED)


def _section(path: str, options: dict[str, Any]) -> ConsumeSettings:
    """One FILE of the command line as a section of `consume:`."""
    from scheduler.config.settings import ConsumeSettings

    try:
        return ConsumeSettings(
            path=path,
            format=options["form"] or ("json" if options["fields"] else "auto"),
            bucket=options["bucket"],
            hosts=_pairs("--host", options["hosts"]),
            strip_prefix=options["strip_prefix"] or "",
            statuses=options["statuses"] or (404,),
            methods=("GET", "HEAD") if options["head"] else ("GET",),
            include=options["include"],
            exclude=options["exclude"],
            bots=not options["no_bots"],
            fields=_pairs("--field", options["fields"]),
        )
    except ValidationError as error:
        raise ConfigError(f"consume {path}: {error.errors()[0]['msg']}") from error


def _pairs(option: str, values: tuple[str, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for value in values:
        left, separator, right = value.partition("=")
        if not separator or not left or not right:
            raise ConfigError(f"{option} {value!r}: NAME=VALUE is expected")
        out[left] = right
    return out


def _refuse_missing(specs: list[InputSpec]) -> None:
    from scheduler.logs.sources import is_socket

    for spec in specs:
        if is_socket(spec.path):
            raise ConfigError(f"{spec.path}: a socket has no end; leave out --once, --replay and --dry-run")
        if spec.path != "-" and not Path(spec.path).exists() and not glob.glob(spec.path):  # noqa: PTH207 -- absolute patterns
            raise ConfigError(f"{spec.path}: no such file")


async def _consume(
    settings: Settings, specs: list[InputSpec], *, once: bool, options: dict[str, Any]
) -> dict[str, Any]:
    from scheduler.dispatch.sink import QueueSink
    from scheduler.front.admin.standalone import serving
    from scheduler.logs.board import Board
    from scheduler.logs.checkpoint import Checkpoint
    from scheduler.logs.consumer import Consumer
    from scheduler.logs.open import checkpoint_path, default_name, instance_name
    from scheduler.rules.in_force.apply import apply_file_rules
    from scheduler.runtime import open_services
    from workers.collector import spare_what_lasts
    from workers.telemetry import metrics

    name = options["name"] or default_name(specs)
    stop = stop_event()
    checkpoint = Checkpoint(checkpoint_path(settings.data_dir, name))
    with checkpoint.hold():
        async with open_services(settings) as services:
            # Whoever runs only a consumer and workers has no front that would publish the file's rules. A
            # machine with logs may know some of the buckets only: it takes nothing from the others.
            await apply_file_rules(services.rules, settings, who="consume", withdraw=False)
            sink = QueueSink(
                dispatcher=services.dispatcher,
                ledger=services.ledger,
                stop=stop,
                lane=Lane.COLD if options["replay"] else Lane.HOT,
                events_per_s=options["rate"],
                ready=lambda: services.rules.synced,
            )
            consumer = Consumer(specs, sink=sink, checkpoint=checkpoint, once=once, strict=once, packed=once)
            board = Board(services.ledger, consumer, instance=instance_name(name))
            writing = asyncio.create_task(board.run())
            spare_what_lasts()

            def tell_lag() -> None:
                for file in consumer.status()["files"]:
                    lag_bytes = int(file["lag_bytes"] or 0)
                    metrics.consumer_state(file["path"], lag_bytes=lag_bytes, lag_s=float(file["lag_s"]))

            try:
                if once:
                    await consumer.run(stop)
                else:
                    async with serving(settings, "consumer", tell_lag):
                        await consumer.run(stop)
            finally:
                writing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writing
                # A follower that is stopped will be missed: its silence is a gap until it is back.
                await (board.retire() if once else board.write())
            return _summary(consumer.totals, consumer.status(), interrupted=once and stop.is_set())


async def _dry(settings: Settings, specs: list[InputSpec], *, as_json: bool) -> dict[str, Any]:
    from scheduler.dispatch.dispatcher import left_out
    from scheduler.dispatch.sink import DrySink
    from scheduler.logs.checkpoint import Checkpoint
    from scheduler.logs.consumer import Consumer
    from scheduler.rules.in_force.apply import read_file_rules

    rules, _ = read_file_rules(settings)
    found: list[dict[str, str]] = []
    left: list[dict[str, str]] = []
    unjudged: set[str] = set()

    def show(one: MissEvent | Deletion) -> None:
        kind = "delete" if type(one).__name__ == "Deletion" else "fetch"
        if as_json:
            found.append({"do": kind, "bucket": one.bucket, "key": one.key})
        else:
            say(f"{kind:<6} {one.bucket}/{log.one_line(one.key)}")

    def leave(one: MissEvent) -> str:
        """What the rules of the configuration say; of others only those in force could tell."""
        ruleset = rules.get(one.bucket)
        reason = left_out(one, buckets=settings.buckets, ruleset=ruleset)
        if reason == "unmatched" and ruleset is None:
            if one.bucket not in unjudged:
                unjudged.add(one.bucket)
                note = (
                    f"note: the rules of bucket {one.bucket} are not in the configuration; they may want less"
                )
                say(note, err=True)
            return ""
        if reason and as_json:
            left.append({"bucket": one.bucket, "key": one.key, "reason": reason})
        elif reason:
            say(f"leave  {one.bucket}/{log.one_line(one.key)}: {reason}", err=True)
        return reason

    stop = stop_event()
    consumer = Consumer(
        specs, sink=DrySink(show, leave), checkpoint=Checkpoint(None), once=True, strict=True, packed=True
    )
    await consumer.run(stop)
    summary = _summary(consumer.totals, consumer.status(), interrupted=stop.is_set())
    return {**summary, "found": found, "left": left} if as_json else summary


def _summary(totals: dict[str, int], status: dict[str, Any], *, interrupted: bool) -> dict[str, Any]:
    """`failed`: something was lost, or the end was not reached."""
    return {
        "failed": interrupted or totals.get("gaps", 0) > 0,
        "interrupted": interrupted,
        **{name: totals.get(name, 0) for name in _TOLD},
        "gap_bytes": totals.get("gap_bytes", 0),
        "files": status["files"],
    }


def _tell(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(summary)
        return
    say(
        ", ".join(
            f"{name.replace('_', ' ')} {summary[name]:,}"
            for name in _TOLD
            if summary[name] or name == "lines"
        ),
        err=True,
    )
    for file in summary["files"]:
        notes = [f"{count} {reason}" for reason, count in (file["refused"] | file["ignored"]).items()]
        if file["broken"]:
            notes.append(
                f"{file['broken']} not of the format, for example {file['samples'][-1]['line'][:100]!r}"
                if file["samples"]
                else f"{file['broken']} not of the format"
            )
        if notes:
            say(f"{file['path']}: {', '.join(notes)}", err=True)
