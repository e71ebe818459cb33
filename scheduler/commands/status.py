"""`ferryman status`: one screen of how everything stands, once or kept up to date."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from scheduler.commands.command_line import (
    EXIT_FAILED,
    config_option,
    console,
    echo_json,
    json_option,
    load,
    run_async,
    stop_event,
)
from scheduler.config.quantity import duration, size
from workers.telemetry import log
from workers.telemetry.log import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from scheduler.config.settings import Settings
    from scheduler.front.admin.dashboard.board import Reading
    from scheduler.status import Status

#: How the name of a section looks.
TITLE = "bold cyan"
#: Columns of the curves, at most.
WIDEST = 132
#: Seconds between two readings with --watch.
WATCH_S = 2.0


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Keep it up to date until Ctrl-C.")
def command(config: Path | None, as_json: bool, watch: bool) -> None:
    """Show what the system is doing: queues, outcomes, failures, origins, logs and scans.

    Exit code 1 when a part could not be read.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    log.configure(form="auto", level="error")  # problems stand on the screen
    settings = load(config)
    if watch:
        run_async(_watch(settings))
        return
    found = run_async(_once(settings))
    if as_json:
        from scheduler.status import to_json

        echo_json(to_json(found))
    else:
        console().print(screen(found))
    if found.problems:
        sys.exit(EXIT_FAILED)


async def _once(settings: Settings) -> Status:
    from scheduler.status import collect, open_readers

    async with open_readers(settings) as sources:
        return await collect(sources)


async def _watch(settings: Settings) -> None:
    from scheduler.commands.watching import glance_screen
    from scheduler.front.admin.dashboard.board import Board
    from scheduler.status import open_readers

    stop = stop_event()
    to = console()
    plain = not _draws_blocks(sys.stdout.encoding)

    def drawn(reading: Reading) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        top = glance_screen(reading.glance, reading.stale, width=min(to.width, WIDEST), plain=plain)
        return Group(*top, Text(""), screen(reading.status))

    async with open_readers(settings) as sources, Board(sources, stop=stop) as board:
        if not sys.stdout.isatty():  # into a file or a pipe: one screen after another, nothing is erased
            going = True
            while going:
                to.print(drawn(await board.read()))
                sys.stdout.flush()
                going = await board.until_next(WATCH_S)
            return
        from rich.live import Live

        with Live(drawn(await board.read()), console=to, auto_refresh=False, screen=True) as live:
            while await board.until_next(WATCH_S):
                live.update(drawn(await board.read()), refresh=True)


def _draws_blocks(encoding: str | None) -> bool:
    """Whether what is written to can hold the signs that curves are made of."""
    try:
        "▁█".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def screen(status: Status) -> RenderableType:
    """The status for a terminal."""
    from rich.console import Group
    from rich.text import Text

    from scheduler.commands.origins import table

    head = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.at))
    if "workers" not in status.problems:
        head += f"   {status.workers} worker process{'' if status.workers == 1 else 'es'}"
    parts: list[RenderableType] = [
        Text(head, style="dim"),
        *([] if "queues" in status.problems else [_queues(status)]),
        *([] if "rules" in status.problems else [_rules(status)]),
    ]
    if status.failure_reasons:
        rows = [[reason, f"{count:,}"] for reason, count in status.failure_reasons.items()]
        parts.append(_grid(["Failures", "keys"], rows))
    if status.origins:
        parts.append(table(list(status.origins), brief=True))
    if status.back:
        rows = [
            [back.bucket, f"{back.pending:,}", f"{back.failed:,}", f"{back.lag_s:.0f} s"]
            for back in status.back
        ]
        parts.append(_grid(["The way back", "pending", "failed", "lag"], rows))
    if status.consumers:
        rows = [
            [consumer.path, f"{consumer.lag_bytes:,} B", f"{consumer.lag_s:.1f} s", f"{consumer.misses:,}"]
            for consumer in status.consumers
        ]
        parts.append(_grid(["Logs", "behind", "for", "misses"], rows))
    if status.scans:
        parts.append(_scans(status))
    parts = [one for part in parts for one in (part, Text(""))][:-1]
    # A server that is away is one thing to say, however many parts miss it.
    for problem in dict.fromkeys(status.problems.values()):
        names = ", ".join(part for part, why in status.problems.items() if why == problem)
        parts.append(Text(f"{names}: not read: {problem}", style="red"))
    return Group(*parts)


def _queues(status: Status) -> RenderableType:
    rows = [
        [
            queue.lane,
            *(f"{n:,}" for n in (queue.waiting, queue.running, queue.delayed)),
            f"{queue.oldest_age_s:.0f} s",
        ]
        for queue in status.queues
    ]
    return _grid(["Queues", "waiting", "running", "delayed", "oldest"], rows)


def _rules(status: Status) -> RenderableType:
    names = ("stored", "already_present", "absent_at_origin", "skipped", "failed")
    rows = [
        [
            f"{rule.bucket}/{rule.rule}",
            *(f"{rule.counts.get(name, 0):,}" for name in names),
            _plain(size(rule.counts.get("bytes", 0))),
        ]
        for rule in status.rules
    ]
    return _grid(["Rules", "stored", "present", "absent", "skipped", "failed", "bytes"], rows)


def _scans(status: Status) -> RenderableType:
    rows = []
    for scan in status.scans:
        total, progress = scan.total, scan.progress
        share = f"{progress.settled / progress.expected:.1%}" if progress.expected else "-"
        phase = "paused" if scan.paused else f"{scan.phase}{', waits' if scan.waiting else ''}"
        left = "-" if progress.eta_s is None else _plain(duration(progress.eta_s))
        numbers = (f"{n:,}" for n in (total.found, total.pending, total.failed))
        moved = _plain(size(total.bytes))
        rows.append([scan.name, phase, share, *numbers, moved, f"{progress.objects_per_s:,.0f}", left])
    return _grid(["Scans", "phase", "done", "found", "pending", "failed", "bytes", "keys/s", "left"], rows)


def _plain(text: str) -> str:
    """With a space that every terminal knows."""
    return text.replace("\u202f", " ")


def _grid(columns: list[str], rows: list[list[str]]) -> RenderableType:
    """A section: its first heading is its title, which saves a line on a small screen."""
    from rich.table import Table
    from rich.text import Text

    title = Text(columns[0], style=TITLE)
    if not rows:
        return title.append(": none", style="dim")
    found = Table(box=None, pad_edge=False, header_style="dim")
    found.add_column(title, no_wrap=True)
    for column in columns[1:]:
        found.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        found.add_row(*(Text(printable(cell)) for cell in row))
    return found
