"""`ferryman worker`: worker processes for the hot and the cold lane, apart from each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from scheduler.commands.command_line import config_option, guarded, load, run_async, stop_event
from workers.plan import Lane
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.machine.processes import LaneSize


@click.command()
@config_option
@click.option(
    "--lane",
    type=click.Choice([*(lane.value for lane in Lane), "both"]),
    default="both",
    show_default=True,
    help="What to work off: misses that clients wait for, scans, or both in separate processes.",
)
@click.option("--processes", type=click.IntRange(1, 64), help="Processes a lane; default: half the cores.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Messages a process works off at once; default: 32 hot, 2 cold (each a batch of items).",
)
@guarded
def command(config: Path | None, lane: str, processes: int | None, threads: int | None) -> None:
    """Run worker processes that move objects, until Ctrl-C."""
    from scheduler.config import secret_files
    from scheduler.machine.processes import LaneSize

    settings = load(config)
    secret_files.require(settings)
    log.configure(form=settings.log.format, level=settings.log.level)
    metric_files.use(settings.data_dir)
    lanes = list(Lane) if lane == "both" else [Lane(lane)]
    run_async(_run(settings, lanes, LaneSize(processes=processes, threads=threads)))


async def _run(settings: Settings, lanes: Sequence[Lane], size: LaneSize) -> None:
    from scheduler.front.admin.standalone import serving
    from scheduler.machine.processes import worker_children, worker_group
    from scheduler.machine.startup import publish_first_rules
    from scheduler.machine.supervise import Supervisor
    from scheduler.rules.in_force.repository import RulesRepository
    from workers.ledger.ledger import Ledger

    stop = stop_event()
    ledger = Ledger.open(settings.broker)
    try:
        # Where nothing but workers and commands runs, nobody else would.
        rules = RulesRepository(ledger.redis, namespace=settings.broker.namespace)
        await publish_first_rules(rules, settings, who="worker")
    finally:
        await ledger.close()
    groups = [worker_group(settings, lane, size) for lane in lanes]
    async with serving(settings, "worker", workers=groups), Supervisor() as supervisor:
        await asyncio.gather(*(supervisor.start(child) for child in worker_children(settings, lanes, size)))
        await stop.wait()
