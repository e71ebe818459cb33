"""What control of origins costs an object: pick, candidates, acquire and release, with and without budgets.

    python bench/control.py [--redis redis://127.0.0.1:6379/1]

Without --redis it starts the Valkey of the wheel when that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path

import redis.asyncio

from workers.origin.control.control import OriginControl
from workers.origin.control.fleet import Fleet
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import BudgetSettings, OriginSettings
from workers.telemetry import metric_types, metrics

HOSTS = tuple(OriginGroup(primary=Origin(host=f"o{n}.example"), weight=10 - n) for n in range(10))
PLAN = FetchPlan(bucket="site", rule="r", groups=HOSTS)
ITEM = FetchItem(key="k", path="k")


def row(what: str, seconds: float, count: int, note: str = "") -> None:
    print(f"{what:<52}{seconds / count * 1e6:>9.2f} µs  {note}")


def best(run, count: int, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            run()
        times.append(time.perf_counter() - began)
    return min(times)


async def acquiring(control: OriginControl, count: int, lane: Lane = Lane.COLD) -> float:
    began = time.perf_counter()
    for _ in range(count):
        async with await control.acquire("o0.example", lane, timeout_s=10) as slot:
            await slot.pace(16_384)
    return time.perf_counter() - began


async def main(url: str) -> None:
    control = OriginControl(OriginSettings())
    count = 50_000
    row("pick, 10 hosts", best(lambda: control.pick(PLAN), count), count)
    row("candidates, 10 hosts", best(lambda: control.candidates(PLAN, ITEM), count), count)
    row("succeeded", best(lambda: control.succeeded("o0.example", 0.02), count), count)

    row("acquire + pace + release, no budget", await acquiring(control, 20_000), 20_000)

    client = redis.asyncio.Redis.from_url(url)
    await client.flushdb()
    large = BudgetSettings(concurrency=64, requests_per_s=1e6, bytes_per_s=1e12)
    async with OriginControl(OriginSettings(budgets={"default": large}), redis=client) as shared:
        await acquiring(shared, 100)
        asked = 0
        run = Fleet._run  # noqa: SLF001 -- counted here only

        async def counted(self, *args):
            nonlocal asked
            asked += 1
            return await run(self, *args)

        Fleet._run = counted  # noqa: SLF001 -- as above
        took = await acquiring(shared, 20_000)
        row("acquire + pace + release, slots, requests and bytes", took, 20_000, f"{asked} calls to Redis")
        took = time.perf_counter()
        for _ in range(500):
            await client.ping()
        row("a round trip to Redis, for comparison", time.perf_counter() - took, 500)
    await client.aclose()

    observer = metrics.WorkerObserver(Lane.COLD)

    def one_object() -> None:
        metrics.origin_answered("o0.example", 200, first_byte_s=0.02)
        metrics.claimed("claimed")
        observer.finished("images", "stored", 16_384, 0.05)

    row("metrics of one stored object", best(one_object, 50_000), 50_000, "in the process")
    row(
        "delivery to prometheus_client, once a second",
        best(lambda: (one_object(), metric_types.flush()), 2_000),
        2_000,
    )
    row("render, one process", best(metrics.render, 50), 50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = arguments.redis
        if url is None:
            sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
            from support.valkey import running_valkey

            url = stack.enter_context(running_valkey())
        asyncio.run(main(url))
