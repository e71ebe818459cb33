"""What worker processes cost that have nothing to do, and how soon an idle one takes a message.

    .venv/bin/python bench/idle.py [--seconds 20] [--rounds 1] [--messages 40]

A Valkey, a SeaweedFS, and one process of each lane as `ferryman up` starts them. Nothing is moved: the
messages name a plan that is refused, and the time is that from before their sending until no message waits.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import redis.asyncio
import uvloop
from figures import note, spread
from machine import describe, own_cpu_s, peak_rss_mib, table, tree

from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.supervise import Supervisor
from support.gateway import gateway_settings
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.settings import LimitSettings
from workers.store.client import ObjectStore
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    from support.store.seaweed import Seaweed

PLAN = FetchPlan(bucket="bench", rule="r", groups=(OriginGroup(primary=Origin(host="localhost")),))
#: Seconds between two messages: a worker is idle again, and no two meet the same phase of a look.
BETWEEN_S = 0.31


async def latencies_ms(url: str, queue: JobQueue, lane: Lane, messages: int) -> list[float]:
    took = []
    async with redis.asyncio.Redis.from_url(url) as client:
        for number in range(messages):
            await asyncio.sleep(BETWEEN_S * (1 + number % 7 / 7))
            began = time.perf_counter()
            item = FetchItem(key=f"{lane}/{number}", path="x")
            await queue.enqueue_many([Batch(plan=PLAN, lane=lane, items=(item,))])
            while await client.llen(f"t:{lane}"):  # noqa: ASYNC110 -- another process takes it
                await asyncio.sleep(0.0005)
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


async def main(url: str, seaweed: Seaweed, args: argparse.Namespace, folder: Path) -> None:
    settings = gateway_settings(seaweed, url, "bench", None, data_dir=folder, namespace="t")
    async with ObjectStore(settings.store, LimitSettings()) as store:
        await store.ensure_bucket("bench")
    log.configure(form="json", level="error")
    metric_files.use(folder)
    rows = [["lane", "CPU of its process, idle", "of dramatiq's master", "taken after p50 / p95", "RSS"]]
    queue = JobQueue.open(settings.broker)
    async with Supervisor() as supervisor:
        masters = {
            child.env["FERRYMAN_LANE"]: await supervisor.start(child)
            for child in worker_children(settings, list(Lane), LaneSize(processes=1))
        }
        await asyncio.sleep(3)  # what a start leaves to be done
        trees = {lane: tree(pid) for lane, pid in masters.items()}
        shares: list[dict[int, float]] = []
        for _ in range(args.rounds):
            before = {pid: own_cpu_s(pid) for pids in trees.values() for pid in pids}
            began = time.perf_counter()
            await asyncio.sleep(args.seconds)
            lasted = time.perf_counter() - began
            share = {pid: (own_cpu_s(pid) - spent) / lasted * 100 for pid, spent in before.items()}
            note(
                "idle", **{f"{lane}_percent": sum(share[pid] for pid in of[1:]) for lane, of in trees.items()}
            )
            shares.append(share)
        for lane in Lane:
            master, *children = trees[lane.value]
            took = await latencies_ms(url, queue, lane, args.messages)
            rows.append(
                [
                    lane.value,
                    f"{spread([sum(share[pid] for pid in children) for share in shares])} %",
                    f"{spread([share[master] for share in shares])} %",
                    f"{median(took):.1f} / {took[int(len(took) * 0.95)]:.1f} ms",
                    f"{peak_rss_mib(children):.0f} MiB",
                ]
            )
    await queue.close()
    print(f"{describe()}; idle for {args.rounds} times {args.seconds} s, {args.messages} messages to each\n")
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--messages", type=int, default=40)
    with (
        running_valkey() as valkey,
        running_seaweed() as weed,
        tempfile.TemporaryDirectory() as directory,
    ):
        uvloop.run(main(valkey, weed, parser.parse_args(), Path(directory)))
