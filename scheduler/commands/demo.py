"""`ferryman demo`: the whole way of an object, shown and checked on a sample origin."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from scheduler.commands.command_line import run_async, stop_event
from workers.telemetry import log


@click.command()
@click.option("--exit", "leave", is_flag=True, help="End after the summary; non-zero when anything differed.")
@click.option(
    "--dir",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".ferryman-demo"),
    show_default=True,
    help="Where the demo keeps its files; emptied at start.",
)
def command(leave: bool, root: Path) -> None:
    """Show the whole way of an object on a sample origin, with everything it needs."""
    log.configure(form="auto", level="warning")
    sys.exit(run_async(_main(root.resolve(), leave=leave)))


async def _main(root: Path, *, leave: bool) -> int:
    from scheduler.demo.run import run_demo

    return await run_demo(root, leave=leave, stop=stop_event())
