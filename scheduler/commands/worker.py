"""`ferryman worker`: worker processes for each lane, apart from each other."""

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
    type=click.Choice([*(lane.value for lane in Lane), "scan", "both", "all"]),
    default="all",
    show_default=True,
    help="What to work off: misses that clients wait for (hot), what scans found missing (cold), both of "
    "them, ranges of scans that are cut (scan), or all in separate processes.",
)
@click.option("--processes", type=click.IntRange(1, 64), help="Processes a lane; default: half the cores.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Messages a process works off at once; default: 32 hot, 3 cold (each a batch of items), 16 scan.",
)
@guarded
def command(config: Path | None, lane: str, processes: int | None, threads: int | None) -> None:
    """Run worker processes that move objects, and compare what scans are cut into, until Ctrl-C."""
    from scheduler.config import secret_files
    from scheduler.machine.processes import LaneSize

    settings = load(config)
    secret_files.require(settings)
    log.configure(form=settings.log.format, level=settings.log.level)
    metric_files.use(settings.data_dir)
    lanes = list(Lane) if lane in {"both", "all"} else [Lane(lane)] if lane != "scan" else []
    size = LaneSize(processes=processes, threads=threads)
    run_async(_run(settings, lanes, size, shards=lane in {"scan", "all"}))


async def _run(settings: Settings, lanes: Sequence[Lane], size: LaneSize, *, shards: bool) -> None:
    from scheduler.config.run_settings import write_run_settings
    from scheduler.front.admin.standalone import serving
    from scheduler.machine.processes import shard_children, worker_children, worker_group
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
        children = worker_children(settings, lanes, size)
        if shards:
            children += shard_children(settings, write_run_settings(settings, "worker"), size)
        await asyncio.gather(*(supervisor.start(child) for child in children))
        await stop.wait()
