"""`ferryman scan`: start, status, pause, resume, cancel, serve."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TextIO

import click

from scheduler.commands.command_line import (
    CommandFailed,
    config_option,
    echo_json,
    json_option,
    load,
    run_async,
    say,
    stop_event,
)
from scheduler.commands.rules_in_force import note_other_rules
from scheduler.commands.scan_view import key_line, show, unread, watch
from scheduler.commands.shard_number import SHARDS
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.scan.record.state import Order
    from scheduler.scan.service import ScanService

#: Those of `scheduler.scan.inventory.manifest`; a command's help loads no scan.
MANIFEST_FORMATS = ("plain", "csv", "jsonl", "tsv", "httplist", "find0")
#: Inventories whose argument is a name, and no file or URL.
_NO_PLACES = frozenset({"bucket"})
#: Scans that are shown, unless more are asked for.
_SHOWN = 200
#: Seconds that a process needs before it can say that it runs scans.
_STARTING_S = 5.0


@click.group("scan")
def command() -> None:
    """Move what nobody asked for: everything that an inventory names and the bucket lacks."""


@command.command("start")
@click.argument("name")
@click.option("--bucket", help="Destination bucket; default: that of scans.NAME in the configuration.")
@click.option("--manifest", metavar="FILE|URL", help="Inventory: a list of keys or URLs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(MANIFEST_FORMATS),
    help="Format of the manifest; default: told from its first lines.",
)
@click.option("--source", metavar="KIND=ARG", help="Inventory of another kind, for example sitemap=URL.")
@click.option("--prefix", help="Only keys that begin so.")
@click.option("--include", multiple=True, metavar="REGEX", help="Only keys that match; may be repeated.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="No keys that match; may be repeated.")
@click.option("--min-size", type=click.IntRange(min=0), help="Bytes.")
@click.option("--max-size", type=click.IntRange(min=0), help="Bytes.")
@click.option(
    "--max-age",
    "max_age_days",
    type=float,
    metavar="DAYS",
    help="Only objects changed within that many days.",
)
@click.option(
    "--min-age", "min_age_days", type=float, metavar="DAYS", help="Only objects unchanged for that many days."
)
@click.option(
    "--compare",
    multiple=True,
    type=click.Choice(["size", "digest", "mtime"]),
    help="What makes a present object `differs`; default size.",
)
@click.option("--replace", is_flag=True, help="Replace differing objects that are ours and unchanged since.")
@click.option("--dry-run", is_flag=True, help="Count only; nothing is sent to the queue.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after that many missing keys.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Missing keys a second.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="HOURS",
    help='Send keys only then, local time, for example "22:00-06:00 mon-fri"; may be repeated.',
)
@click.option(
    "--stop-after-failures", type=click.IntRange(min=1), help="Fail the scan at that many failed keys."
)
@click.option(
    "--max-absent",
    type=click.FloatRange(min=0, max=1),
    metavar="SHARE",
    help="Fail the scan when more than this share of its keys is absent; default 0.9, 1: never.",
)
@click.option(
    "--allow-empty", is_flag=True, help="An inventory without any key is meant, and may open the gate."
)
@click.option(
    "--reverse",
    is_flag=True,
    help="The other way: bring what the store has and the origin lacks, or has older (origin.write_back).",
)
@click.option(
    "--shards",
    type=SHARDS,
    metavar="N|auto",
    help="Compare so many ranges of keys side by side, in every process that runs scans; default 1.",
)
@click.option("--wait", is_flag=True, help="Stay, show progress, and end with the scan's result.")
@config_option
@json_option
def start(
    name: str,
    *,
    config: Path | None,
    as_json: bool,
    wait: bool,
    manifest: str | None,
    form: str | None,
    source: str | None,
    **given: Any,
) -> None:
    """Start a scan, or go on with one that stopped."""
    settings = load(config)
    options = {key: value for key, value in given.items() if value not in {None, ()} and value is not False}
    if manifest is not None and source is not None:
        raise CommandFailed("give one of --manifest and --source", exit_code=2)
    if form is not None and manifest is None:
        raise CommandFailed("--format says what --manifest has: give both", exit_code=2)
    if manifest is not None:
        options["inventory"] = {"manifest": _absolute(manifest)} | ({"format": form} if form else {})
    if source is not None:
        kind, separator, argument = source.partition("=")
        if not separator:
            raise CommandFailed(f"--source {source!r} is not KIND=ARG", exit_code=2)
        options["inventory"] = {kind: argument if kind in _NO_PLACES else _absolute(argument)}
    failed = run_async(_start(settings, name, options, wait=wait, as_json=as_json))
    if failed:
        raise CommandFailed(failed)


def _absolute(place: str) -> str:
    from pathlib import Path

    return place if "://" in place else str(Path(place).absolute())


async def _start(settings: Settings, name: str, given: dict[str, Any], *, wait: bool, as_json: bool) -> str:
    from scheduler.machine.startup import make_bucket
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService, scan_options

    options = scan_options(settings, name, given)
    async with open_services(settings) as services:
        await note_other_rules(services, options.bucket)
        await make_bucket(services, options.bucket)
        service = ScanService(services)
        before = await service.states.get(name)
        state = await service.start(name, options)
        if before is not None and before.run == state.run:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state.requested_at))
            keys = "" if state.inventory_keys is None else f" (keys: {state.inventory_keys})"
            say(
                f"scan {name} goes on with its run of {at}, whose inventory is what was "
                f"read for it then{keys}. To begin anew: ferryman scan cancel {name}",
                err=True,
            )
        if not wait:
            if as_json:
                echo_json(await service.report(state))
            else:
                say(f"scan {name} requested. See: ferryman scan status {name}")
            if not await _runs_somewhere(service):
                say(
                    "warning: no process is there that runs scans: start `ferryman up`, `ferryman front` or "
                    f"`ferryman scan serve`, or stay yourself: ferryman scan start {name} … --wait",
                    err=True,
                )
            return ""
        try:
            report = await watch(service, name, quiet=as_json)
        except asyncio.CancelledError:
            say(
                f"scan {name} is not ended: it goes on where it was in `ferryman up`, `ferryman front` or "
                "`ferryman scan serve`, or when the same command is given again; "
                f"to end it: ferryman scan cancel {name}",
                err=True,
            )
            raise
    if as_json:
        echo_json(report)
    else:
        show(report)
    if report["phase"] != "done":
        return f"scan {name} {report['phase']}: {report['error'] or 'by an operator'}"
    if report["total"]["found"] == 0 and not options.allow_empty:
        say("warning: the inventory has no key; it opens no gate unless --allow-empty is given", err=True)
    failed = report["total"]["failed"]
    problems = [unread(report)] if report["unread"] else []
    if failed:
        problems.append(f"{failed} keys failed: ferryman failures list --bucket {report['bucket']}")
    return "; ".join(problems)


async def _runs_somewhere(service: ScanService) -> bool:
    """Whether any process runs scans; one that is just being started gets its time."""
    until = time.monotonic() + _STARTING_S
    while True:
        if await service.states.servers():
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.2)


@command.command("status")
@click.argument("name", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=_SHOWN,
    show_default=True,
    help="Without a name: show so many, those under way first, then the newest.",
)
@click.option("--cursor", default="", metavar="TEXT", help="Go on where the list before ended; it says how.")
@config_option
@json_option
def status(name: str | None, *, limit: int, cursor: str, config: Path | None, as_json: bool) -> None:
    """Show scans, or one with its account by prefix."""
    settings = load(config)
    if name is not None:
        report = run_async(_status(settings, name))
        if as_json:
            echo_json(report)
        else:
            show(report)
        return
    reports, after, total = run_async(_list(settings, limit, cursor))
    if as_json:
        echo_json(reports)
    elif not reports:
        say("no scans yet: ferryman scan start NAME --bucket B --manifest FILE")
    else:
        for report in reports:
            show(report)
    if after:
        again = "ferryman scan status" + (f" --limit {limit}" if limit != _SHOWN else "")
        say(f"{len(reports)} of {total} scans; the next: {again} --cursor {after}", err=True)


async def _status(settings: Settings, name: str) -> dict[str, Any]:
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService

    async with open_services(settings) as services:
        service = ScanService(services)
        state = await service.states.get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        return await service.report(state)


async def _list(settings: Settings, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str, int]:
    """Some reports, how to have the next (empty: there are none), and how many scans there are."""
    from scheduler.runtime import open_services
    from scheduler.scan.record.scan_index import WrongCursor
    from scheduler.scan.service import ScanService

    async with open_services(settings) as services:
        service = ScanService(services)
        try:
            page = await service.states.page(limit, cursor)
        except WrongCursor as error:
            raise CommandFailed(str(error), exit_code=2) from error
        return [await service.report(state) for state in page.scans], page.cursor, page.total


@command.command("keys")
@click.argument("name")
@click.option("--absent", "terms", flag_value="absent", multiple=True, help="No origin has them.")
@click.option("--differs", "terms", flag_value="differs", multiple=True, help="Present, and not as named.")
@click.option("--excluded", "terms", flag_value="excluded", multiple=True, help="Left out by the filters.")
@click.option("--skipped", "terms", flag_value="skipped", multiple=True, help="Not moved on purpose.")
@click.option("--failed", "terms", flag_value="failed", multiple=True, help="As `ferryman failures list`.")
@click.option("--unread", "terms", flag_value="unread", multiple=True, help="Places that could not be read.")
@click.option("--findings", is_flag=True, help="What the last verification found, instead.")
@click.option("--combined", is_flag=True, help="As rclone check --combined: a sign, a space, the key.")
@click.option(
    "--output", "-o", type=click.File("w", encoding="utf-8", atomic=True), default="-", help="A file."
)
@config_option
@json_option
def keys(
    name: str,
    *,
    terms: tuple[str, ...],
    findings: bool,
    combined: bool,
    output: TextIO,
    config: Path | None,
    as_json: bool,
) -> None:
    """Name the keys behind a scan's counts; without a choice, all but `present` and `stored`.

    A line each: the term, the key, the reason. --json gives a JSON object a line.
    """
    if findings and terms:
        raise click.UsageError("--findings are those of `ferryman verify`; choose them, or terms of the scan")
    form = "json" if as_json else "combined" if combined else "text"
    number, expected = run_async(_keys(load(config), name, terms, form, output, findings=findings))
    if number != expected:
        lost = "the scan goes on, or Redis or the store has lost some"
        say(f"{number} named, and {expected} counted: {lost}", err=True)
    elif not number:
        say(f"scan {name}: there are none", err=True)


async def _keys(
    settings: Settings, name: str, terms: tuple[str, ...], form: str, output: TextIO, *, findings: bool
) -> tuple[int, int]:
    """Write them; how many there were, and how many the account has."""
    from scheduler.runtime import open_services
    from scheduler.scan.names import FINDINGS, TERMS, Names
    from scheduler.scan.service import ScanService
    from scheduler.scan.verify.report import last_report

    async with open_services(settings) as services:
        service = ScanService(services)
        state = await service.states.get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        wanted = FINDINGS if findings else terms or TERMS
        if findings:
            verified = await last_report(services, name)
            if verified is None or verified.run != state.run:
                raise CommandFailed(f"scan {name} is not verified: ferryman verify {name}", exit_code=2)
            expected = sum(verified.counts.values())
        else:
            report = await service.report(state)
            counts = {**report["total"], "unread": report["unread"]}
            expected = sum(counts[term] for term in wanted)
        number = 0
        async for one in Names(services, state).read(wanted):
            output.write(f"{key_line(one, form)}\n")
            number += 1
        return number, expected


@command.command("serve")
@click.option("--only-shards", is_flag=True, help="Compare ranges of scans that are cut; coordinate none.")
@click.option(
    "--threads", type=click.IntRange(1, 256), default=32, show_default=True, help="Shards at the same time."
)
@config_option
def serve(config: Path | None, *, only_shards: bool, threads: int) -> None:
    """Run the scans that are started, until Ctrl-C.

    `ferryman up` and `ferryman front` keep one such process each, apart from the gateway. However many there
    are, each scan is run by one of them, and taken up by another within 15 s when that one dies. The ranges
    of a scan that is cut (`scan start --shards`) are compared by all of them.
    """
    settings = load(config)
    log.configure(form=settings.log.format, level=settings.log.level)
    metric_files.use(settings.data_dir)
    run_async(_serve(settings, only_shards=only_shards, threads=threads))


async def _serve(settings: Settings, *, only_shards: bool, threads: int) -> None:
    from scheduler.machine.processes import installation_id
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService

    stop = stop_event()
    async with open_services(settings, installation=installation_id(settings)) as services:
        await ScanService(services).serve(stop, only_shards=only_shards, threads=threads)


def _order(order: Order) -> click.Command:
    @click.argument("name")
    @config_option
    @json_option
    def run(name: str, *, config: Path | None, as_json: bool) -> None:
        run_async(_give(load(config), name, order))
        if as_json:
            echo_json({"name": name, "ordered": order})
        else:
            say(f"scan {name}: {order} ordered")

    run.__doc__ = f"{order.capitalize()} a scan."
    return click.command(order)(run)


async def _give(settings: Settings, name: str, order: Order) -> None:
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService

    async with open_services(settings) as services:
        await ScanService(services).order(name, order)


for _name in ("pause", "resume", "cancel"):
    command.add_command(_order(_name))
