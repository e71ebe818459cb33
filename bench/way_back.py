"""The way back: what it adds to a PUT through the gateway, and how fast the lane drains beside the bulk lane.

    .venv/bin/python bench/way_back.py [--puts 2000] [--rounds 4] [--count 4000] [--clients 16] [--only-puts]

Store and origin are a SeaweedFS each. PUTs go alternately to a bucket whose rule writes back and to one whose
rule does not, through one front process; no worker runs meanwhile. Beside them the floor: a bare proxy that
hands the same PUT on over the same libraries, alone and with one round trip to Redis beside it. Then one
worker process moves as many objects from the origin to the store by the queue (bulk), and brings as many from
the store to the origin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from machine import cpu_s, describe, table
from move import wave
from sides.children import child, free_port, front_process, wait_for
from sides.floors import bare_put_proxy

from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.supervise import Supervisor
from support.back import back_rule, origin_sections
from support.gateway import gateway_settings
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.ledger.back import WRITTEN
from workers.ledger.ledger import Ledger
from workers.plan import FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.settings import LimitSettings, StoreSettings, reveal_json
from workers.store.client import ObjectStore
from workers.telemetry import log

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from support.store.seaweed import Seaweed

KEY = {"id": "BENCH", "secret": "bench-secret", "may": ["read", "list", "write", "delete", "manage"]}
ON, OFF = "with-way-back", "without"


def store_of(seaweed: Seaweed) -> StoreSettings:
    return StoreSettings(
        endpoint=seaweed.endpoint,
        access_key_id=seaweed.access_key_id,
        secret_access_key=seaweed.secret_access_key,
    )


async def fill(
    settings: StoreSettings, bucket: str, keys: list[str], body: bytes, clients: int
) -> list[float]:
    """PUT the keys by so many clients; seconds of each."""
    took: list[float] = []
    async with ObjectStore(settings, LimitSettings()) as store:
        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                began = time.perf_counter()
                await store.put_small(bucket, key, body, content_type="text/plain")
                took.append(time.perf_counter() - began)

        await asyncio.gather(*(work() for _ in range(clients)))
    return took


class Side(NamedTuple):
    """Who takes PUTs, and for which bucket."""

    name: str
    port: int
    pid: int
    bucket: str


async def puts(sides: list[Side], args: argparse.Namespace, clients: int) -> list[list[str]]:
    """Rows of the front and of the floor; `sides` are pairs without and with a note, in this order."""
    body = os.urandom(args.size)
    took: dict[Side, list[float]] = {side: [] for side in sides}
    rates: dict[Side, list[float]] = {side: [] for side in sides}
    used_s = dict.fromkeys(sides, 0.0)
    for turn in range(args.rounds):
        for side in sides if turn % 2 else reversed(sides):
            gateway = StoreSettings(
                endpoint=f"http://127.0.0.1:{side.port}",
                access_key_id=KEY["id"],
                secret_access_key=KEY["secret"],
            )
            keys = [f"{side.name}/{turn}/{clients}/{number}" for number in range(args.puts)]
            began, before = time.perf_counter(), cpu_s([side.pid])
            took[side] += await fill(gateway, side.bucket, keys, body, clients)
            rates[side].append(len(keys) / (time.perf_counter() - began))
            await asyncio.sleep(0.2)  # what is noted a moment later is its cost, too
            used_s[side] += cpu_s([side.pid]) - before
    ms = {side: median(values) * 1000 for side, values in took.items()}
    rate = {side: median(values) for side, values in rates.items()}
    us = {side: seconds / args.rounds / args.puts * 1e6 for side, seconds in used_s.items()}
    return [
        [
            f"{off.name}, {clients} clients",
            f"{rate[off]:.0f}/s, {ms[off]:.2f} ms, {us[off]:.0f} us CPU",
            f"{rate[on]:.0f}/s, {ms[on]:.2f} ms, {us[on]:.0f} us CPU",
            f"{rate[on] / rate[off]:.2f}, {ms[on] / ms[off]:.2f}, {us[on] / us[off]:.2f}",
        ]
        for off, on in zip(sides[::2], sides[1::2], strict=True)
    ]


async def lanes(settings: Settings, origin: Seaweed, args: argparse.Namespace) -> list[list[str]]:
    body = os.urandom(args.size)
    keys = [f"{number % 50:02d}/{number}" for number in range(args.count)]
    async with ObjectStore(store_of(origin), LimitSettings()) as store:
        await store.ensure_bucket("bulk")
    async with ObjectStore(settings.store, LimitSettings()) as store:
        await store.ensure_bucket("bulk")
    await fill(store_of(origin), "bulk", keys, body, 32)
    await fill(settings.store, ON, keys, body, 32)
    ledger, queue = Ledger.open(settings.broker), JobQueue.open(settings.broker)
    host = Origin(
        host=origin.endpoint.removeprefix("http://"), scheme="http", base_path="/bulk/", credential="old"
    )
    plan = FetchPlan(bucket="bulk", rule="bench", groups=(OriginGroup(primary=host),), trusted_hosts=True)
    rows = []
    async with Supervisor() as supervisor:
        children = worker_children(settings, [Lane.COLD], LaneSize(processes=1, threads=None))
        pids = [await supervisor.start(one) for one in children]
        await wave(ledger, queue, plan, keys[:50], "warm")
        await drained(ledger, keys[:50])
        rates: dict[str, list[float]] = {"bulk": [], "back": []}
        cpu: dict[str, float] = {"bulk": 0.0, "back": 0.0}
        half = (len(keys) - 50) // 2
        for at in (50, 50 + half):
            some = keys[at : at + half]
            for what in ("bulk", "back"):
                began, used = time.perf_counter(), cpu_s(pids)
                await (wave(ledger, queue, plan, some, f"w{at}") if what == "bulk" else drained(ledger, some))
                rates[what].append(len(some) / (time.perf_counter() - began))
                cpu[what] += cpu_s(pids) - used
        bulk, back = sum(rates["bulk"]) / 2, sum(rates["back"]) / 2
        used_us = {what: seconds / (2 * half) * 1e6 for what, seconds in cpu.items()}
        rows.append(
            [
                "objects of the lane",
                f"{bulk:.0f}/s, {used_us['bulk']:.0f} µs",
                f"{back:.0f}/s, {used_us['back']:.0f} µs",
                f"{back / bulk:.2f}, {used_us['back'] / used_us['bulk']:.2f}",
            ]
        )
    await queue.close()
    await ledger.close()
    return rows


async def drained(ledger: Ledger, keys: list[str]) -> None:
    """Note the keys as written, and wait until they are at the origin."""
    await ledger.back.note(ON, keys, WRITTEN)
    while True:
        if not (await ledger.back.state(ON)).pending:
            return
        await asyncio.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--puts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--only-puts", action="store_true", help="no lane")
    args = parser.parse_args()
    uvloop.install()
    log.configure(level="warning")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running_valkey() as url,
        running_seaweed() as weed,
        running_seaweed() as origin,
    ):
        sections: dict[str, Any] = origin_sections(origin.access_key_id, origin.secret_access_key)
        rule = back_rule(origin.endpoint, ON)
        other = back_rule(origin.endpoint, OFF, mode="off")
        settings = gateway_settings(
            weed,
            url,
            ON,
            [rule],
            data_dir=Path(name),
            gateway={"listen": "127.0.0.1:0", "access_keys": [KEY]},
            buckets={OFF: {"rules": [other]}},
            **sections,
        )
        asyncio.run(make_buckets(store_of(origin), [ON, OFF]))
        port = free_port()
        print(f"{args.size} bytes an object; {describe()}\n")
        rows = [["what", "without", "with the way back", "ratio of rates, of ms, of CPU"]]
        store, alone, beside = json.loads(reveal_json(settings.store)), free_port(), free_port()
        with (
            child(front_process, json.loads(reveal_json(settings)), port) as front,
            child(bare_put_proxy, store, url, False, alone) as bare,
            child(bare_put_proxy, store, url, True, beside) as noting,
        ):
            for one in (port, alone, beside):
                wait_for(one)
            sides = [
                Side("PUT", port, front, OFF), Side("PUT", port, front, ON),
                Side("floor", alone, bare, OFF), Side("floor", beside, noting, OFF),
            ]  # fmt: skip
            for clients in (args.clients, 1):
                rows += asyncio.run(puts(sides, args, clients))
        asyncio.run(forget(settings))
        if not args.only_puts:
            rows += asyncio.run(lanes(settings, origin, args))
        print(table(rows))


async def make_buckets(settings: StoreSettings, buckets: list[str]) -> None:
    async with ObjectStore(settings, LimitSettings()) as store:
        for bucket in buckets:
            await store.ensure_bucket(bucket)


async def forget(settings: Settings) -> None:
    ledger = Ledger.open(settings.broker)
    await ledger.back.forget(ON, [key async for key in ledger.back.keys(ON)])
    await ledger.close()


if __name__ == "__main__":
    main()
