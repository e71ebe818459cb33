"""`ferryman scan`: start, status, pause, resume, cancel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from scheduler.commands.common import CommandFailed, config_option, echo_json, json_option, load, run_async

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.scan.service import ScanService
    from scheduler.scan.state import Order
    from scheduler.settings import Settings

_ENDED = frozenset({"done", "failed", "cancelled"})


@click.group("scan")
def command() -> None:
    """Move what nobody asked for: everything that an inventory names and the bucket lacks."""


@command.command("start")
@click.argument("name")
@click.option("--bucket", help="Destination bucket; default: that of scans.NAME in the configuration.")
@click.option("--manifest", metavar="FILE|URL", help="Inventory: a list of keys or URLs.")
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
    source: str | None,
    **given: Any,
) -> None:
    """Start a scan, or go on with one that stopped."""
    settings = load(config)
    options = {key: value for key, value in given.items() if value not in {None, ()} and value is not False}
    if manifest is not None and source is not None:
        raise CommandFailed("give one of --manifest and --source", exit_code=2)
    if manifest is not None:
        options["inventory"] = {"manifest": _absolute(manifest)}
    if source is not None:
        kind, separator, argument = source.partition("=")
        if not separator:
            raise CommandFailed(f"--source {source!r} is not KIND=ARG", exit_code=2)
        options["inventory"] = {kind: _absolute(argument)}
    failed = run_async(_start(settings, name, options, wait=wait, as_json=as_json))
    if failed:
        raise CommandFailed(failed)


def _absolute(place: str) -> str:
    from pathlib import Path

    return place if "://" in place else str(Path(place).absolute())


async def _start(settings: Settings, name: str, given: dict[str, Any], *, wait: bool, as_json: bool) -> str:
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService, scan_options
    from scheduler.startup import make_ready

    options = scan_options(settings, name, given)
    async with open_services(settings) as services:
        await make_ready(services, who="scan")
        service = ScanService(services)
        state = await service.start(name, options)
        if not wait:
            if as_json:
                echo_json(await service.report(state))
            else:
                click.echo(
                    f"scan {name} requested; a front process runs it. See: ferryman scan status {name}"
                )
            return ""
        report = await _watch(service, name, quiet=as_json)
    if as_json:
        echo_json(report)
    else:
        _print(report)
    if report["phase"] != "done":
        return f"scan {name} {report['phase']}: {report['error'] or 'by an operator'}"
    failed = report["total"]["failed"]
    return f"{failed} keys failed: ferryman failures list --bucket {report['bucket']}" if failed else ""


async def _watch(service: ScanService, name: str, *, quiet: bool) -> dict[str, Any]:
    """Coordinate the scan here unless somebody does, and show its progress until it ends."""
    from redis.exceptions import RedisError
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} objects/s  {task.fields[size]}  {task.fields[failed]} failed"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    here = asyncio.create_task(service.coordinate(name))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=None, rate="0", size="0 B", failed=0)
        while True:
            if here.done():
                here.result()
                here = asyncio.create_task(service.coordinate(name))  # it, or another's, may have died
            try:
                state = await service.states.get(name)
                assert state is not None
                report = await service.report(state)
            except (RedisError, OSError):
                progress.update(task, description=f"{name}: Redis does not answer")
                await asyncio.sleep(1)
                continue
            total = report["total"]
            progress.update(
                task,
                description=f"{name}: {_standing(report)}",
                completed=report["progress"]["settled"],
                total=report["progress"]["expected"] or None,
                rate=f"{report['progress']['objects_per_s']:.0f}",
                size=_bytes(total["bytes"]),
                failed=total["failed"],
            )
            if report["phase"] in _ENDED:
                await here
                return report
            await asyncio.sleep(0.3)


@command.command("status")
@click.argument("name", required=False)
@config_option
@json_option
def status(name: str | None, *, config: Path | None, as_json: bool) -> None:
    """Show scans, or one with its account by prefix."""
    reports = run_async(_status(load(config), name))
    if as_json:
        echo_json(reports[0] if name is not None else reports)
        return
    if not reports:
        click.echo("no scans yet: ferryman scan start NAME --bucket B --manifest FILE")
    for report in reports:
        _print(report)


async def _status(settings: Settings, name: str | None) -> list[dict[str, Any]]:
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService

    async with open_services(settings) as services:
        service = ScanService(services)
        if name is None:
            return [await service.report(state) for state in await service.states.all()]
        state = await service.states.get(name)
        if state is None:
            raise CommandFailed(f"no scan {name!r}; `ferryman scan status` lists them", exit_code=2)
        return [await service.report(state)]


def _order(order: Order) -> click.Command:
    @click.argument("name")
    @config_option
    @json_option
    def run(name: str, *, config: Path | None, as_json: bool) -> None:
        run_async(_give(load(config), name, order))
        if as_json:
            echo_json({"name": name, "ordered": order})
        else:
            click.echo(f"scan {name}: {order} ordered")

    run.__doc__ = f"{order.capitalize()} a scan."
    return click.command(order)(run)


async def _give(settings: Settings, name: str, order: Order) -> None:
    from scheduler.runtime import open_services
    from scheduler.scan.service import ScanService

    async with open_services(settings) as services:
        await ScanService(services).order(name, order)


for _name in ("pause", "resume", "cancel"):
    command.add_command(_order(_name))


def _standing(report: dict[str, Any]) -> str:
    if report["paused"]:
        return "paused"
    return (
        f"{report['phase']}, waiting for {report['waiting']}" if report["waiting"] else str(report["phase"])
    )


def _print(report: dict[str, Any]) -> None:
    total = report["total"]
    state = _standing(report)
    progress = report["progress"]
    click.echo(f"scan {report['name']}  bucket {report['bucket']}  {state}  {progress['duration_s']:.1f} s")
    if progress["eta_s"] is not None:
        done = f"{progress['settled']} of {progress['expected']} keys"
        click.echo(f"  {done}, {progress['objects_per_s']:.0f}/s, {progress['eta_s']:.0f} s to go")
    if report["error"]:
        click.echo(f"  {report['error']}")
    terms = ("present", "stored", "absent", "differs", "excluded", "failed", "skipped", "pending")
    click.echo(f"  found {total['found']} = " + " + ".join(f"{total[term]} {term}" for term in terms))
    stored = _bytes(total["bytes"])
    click.echo(f"  {stored} stored, {report['duplicates']} named twice, {report['extra']} only in the bucket")
    if report["dry_run"]:
        click.echo(f"  dry run: {report['would_fetch']} would be fetched")
    if len(report["prefixes"]) > 1:
        for prefix, row in report["prefixes"].items():
            shown = ", ".join(f"{row[term]} {term}" for term in terms if row[term])
            click.echo(f"    {prefix:<24} found {row['found']}: {shown}")


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
