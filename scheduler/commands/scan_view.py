"""How a scan shows itself on a terminal: its progress while somebody waits, and its account."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from workers.background import end
from workers.telemetry.log import json_text, one_line

if TYPE_CHECKING:
    from scheduler.scan.service import ScanService
    from workers.ledger.names import Named

_ENDED = frozenset({"done", "failed", "cancelled"})
NOBODY_YET = (
    "no process runs it at this moment; one that runs scans takes it up within 15 s "
    "(ferryman up, front or scan serve)"
)
#: Terms of the account, in the order in which they are told.
_TERMS = ("present", "stored", "absent", "differs", "excluded", "failed", "skipped", "pending")


async def watch(service: ScanService, name: str, *, quiet: bool) -> dict[str, Any]:
    """Coordinate the scan here unless somebody does, and show its progress until it ends.

    Whoever is interrupted here lets go of the scan at once, for another process to go on with it.
    """
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
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(name, total=None, rate="0", size="0 B", failed=0)
            while True:
                if here.done():
                    failed = here.exception()
                    if failed is not None and not isinstance(failed, (RedisError, OSError)):
                        raise failed
                    here = asyncio.create_task(service.coordinate(name))  # it, or another's, may have died
                try:
                    state = await service.states.get(name)
                    assert state is not None
                    report = await service.report(state)
                except (RedisError, OSError):
                    progress.update(task, description=f"{name}: Redis does not answer")
                    await asyncio.sleep(1)
                    continue
                progress.update(task, **_line(report))
                if report["phase"] in _ENDED:
                    await asyncio.wait({here})
                    return report
                await asyncio.sleep(0.3)
    finally:
        await end(here)


def _line(report: dict[str, Any]) -> dict[str, Any]:
    """The fields of the progress line."""
    return {
        "description": f"{report['name']}: {standing(report)}",
        "completed": report["progress"]["settled"],
        "total": report["progress"]["expected"] or None,
        "rate": f"{report['progress']['objects_per_s']:.0f}",
        "size": in_bytes(report["total"]["bytes"]),
        "failed": report["total"]["failed"],
    }


def standing(report: dict[str, Any]) -> str:
    """The phase, or why nothing happens."""
    if report["paused"]:
        return "paused"
    if report["phase"] == "inventory" and report["pages"]:
        return f"inventory, {report['pages']} pages read"
    return (
        f"{report['phase']}, waiting for {report['waiting']}" if report["waiting"] else str(report["phase"])
    )


def show(report: dict[str, Any]) -> None:
    """Print the report of `ScanService.report`."""
    total = report["total"]
    state = standing(report)
    progress = report["progress"]
    click.echo(f"scan {report['name']}  bucket {report['bucket']}  {state}  {progress['duration_s']:.1f} s")
    if progress["eta_s"] is not None:
        done = f"{progress['settled']} of {progress['expected']} keys"
        click.echo(f"  {done}, {progress['objects_per_s']:.0f}/s, {progress['eta_s']:.0f} s to go")
    if report["phase"] not in _ENDED:
        click.echo(f"  run by {report['coordinator']}" if report["coordinator"] else f"  {NOBODY_YET}")
    if report["error"]:
        click.echo(f"  {report['error']}")
        if report["phase"] == "failed" and not report["begins_anew"] and "scan resume" not in report["error"]:
            click.echo(f"  when that is mended: ferryman scan resume {report['name']}")
    click.echo(f"  found {total['found']} = " + " + ".join(f"{total[term]} {term}" for term in _TERMS))
    stored = in_bytes(total["bytes"])
    click.echo(f"  {stored} stored, {report['duplicates']} named twice, {report['extra']} only in the bucket")
    for line in shard_lines(report["shards"]):
        click.echo(f"  {line}")
    if report["unread"]:
        click.echo(f"  {unread(report)}")
    if any(total[term] for term in ("absent", "differs", "excluded", "skipped")):
        click.echo(f"  which keys these are: ferryman scan keys {report['name']} [--absent, --differs, …]")
    if total["failed"]:
        click.echo(f"  which failed, and why: ferryman failures list --bucket {report['bucket']}")
    if report["outside"]:
        click.echo(f"  {report['outside']} links led out of the inventory's source and were not followed")
    if report["dry_run"]:
        click.echo(f"  dry run: {report['would_fetch']} would be fetched")
    if len(report["prefixes"]) > 1:
        for prefix, row in report["prefixes"].items():
            shown = ", ".join(f"{row[term]} {term}" for term in _TERMS if row[term])
            click.echo(f"    {prefix:<24} found {row['found']}: {shown}")


def shard_lines(shards: dict[str, Any]) -> list[str]:
    """How the ranges of a scan stand; of one that runs as one, only why it does not run as more."""
    if shards["one_because"]:
        return [f"runs as one range: {shards['one_because']}"]
    if shards["total"] == 1:
        return []
    proof = "join without gap or overlap" if shards["joined"] else f"DO NOT JOIN: {shards['flaw']}"
    by = ", ".join(f"{shards[what]} {what}" for what in ("done", "running", "waiting"))
    if failed := sum(one["state"] == "failed" for one in shards["ranges"]):
        by += f", {failed} failed"
    lines = [f"{shards['total']} ranges {proof}: {by}"]
    if slowest := shards["slowest"]:
        begin = json_text(slowest["begin"]) if slowest["begin"] else "the beginning"
        end = f"{json_text(slowest['end'])}" if slowest["end"] is not None else "the end"
        lines.append(
            f"slowest: from {begin} to {end}, {slowest['found']} keys in {slowest['active_s']:.1f} s, "
            f"about {max(0, slowest['expected'] - slowest['found'])} left"
        )
    return lines


#: As `rclone check --combined` says it: only at the origin, not there, different, unknown; and what the
#: comparison left out.
_SIGNS = {
    "missing": "+",
    "skipped": "+",
    "absent": "-",
    "absent_at_origin": "-",
    "differs": "*",
    "size": "*",
    "digest": "*",
    "bytes": "*",
    "drift": "*",
    "failed": "!",
    "unread": "!",
    "unreadable": "!",
    "excluded": ".",
}


def key_line(one: Named, form: str) -> str:
    """A key behind a count as `text`, `combined` or `json`; one line, whatever the key holds."""
    if form == "json":
        return json_text({"term": one.term, "key": one.key, "reason": one.reason})
    if form == "combined":
        return f"{_SIGNS[one.term]} {one_line(one.key)}"
    return f"{one.term:<9} {one_line(one.key)}{f'  ({one_line(one.reason)})' if one.reason else ''}"


def unread(report: dict[str, Any]) -> str:
    """What to say of the places that could not be read."""
    where = f"ferryman failures list --bucket {report['bucket']} --reason unread_place"
    return f"{report['unread']} places could not be read: {where}"


def in_bytes(number: float) -> str:
    """`1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
