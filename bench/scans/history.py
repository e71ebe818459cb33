"""`bench/scan.py history`: what a long history of scans costs those who look, against a real Valkey.

Two histories are asked in turn, so that what the machine does beside falls on both. Times are medians.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from machine import table

from scheduler.scan.record.state import Counts, ScanOptions, ScanState, ScanStates, dump
from support.valkey import running_valkey
from workers.broker.clients import connect
from workers.settings import BrokerSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

_FEW, _PAGE, _GROUPS = 100, 200, 20


async def fill(redis: Redis, namespace: str, number: int) -> None:
    """So many scans that have ended, and one that runs; each with its prefixes."""
    groups = {f"prefix-{at}/": Counts(found=1_000, present=990, sent=10) for at in range(_GROUPS)}
    options = ScanOptions(bucket="bench", inventory={"manifest": "/data/urls.csv"})
    state = ScanState(name="", run="", options=options, phase="done", groups=groups)
    for at in range(0, number, 1_000):
        rows = {}
        for one in range(at, min(number, at + 1_000)):
            name = f"scan-{one:06}"
            rows[name] = dump(replace(state, name=name, run=f"{name}-r", requested_at=float(one + 1)))
        await redis.hset(f"{namespace}:scans", mapping=rows)
    await ScanStates(redis, namespace=namespace).put(replace(state, name="runs", run="r", phase="compare"))


async def milliseconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def measured(arguments: argparse.Namespace, url: str) -> list[list[str]]:
    redis = connect(BrokerSettings(url=url))
    histories = {number: ScanStates(redis, namespace=f"n{number}") for number in (_FEW, arguments.scans)}
    first: dict[int, float] = {}
    cursors = {}
    for number, states in histories.items():
        await fill(redis, f"n{number}", number)
        first[number] = await milliseconds(states.live)
        cursors[number] = f"{number / 2!r}:scan-{number // 2 - 1:06}"
    found: dict[str, dict[int, list[float]]] = {}
    for _ in range(arguments.rounds):
        for number, states in histories.items():
            works: dict[str, Callable[[], Awaitable[object]]] = {
                "what runs": states.live,
                f"the newest {_PAGE} (status, page, gate)": states.recent,
                f"a page of {_PAGE}": states.page,
                f"a page of {_PAGE}, from the middle": lambda states=states, number=number: states.page(
                    _PAGE, cursors[number]
                ),
            }
            for name, work in works.items():
                found.setdefault(name, {}).setdefault(number, []).append(await milliseconds(work))
    again: dict[int, float] = {}
    for number, states in histories.items():
        await redis.delete(f"n{number}:scans-index:whole")
        again[number] = await milliseconds(states.live)
    await redis.aclose()
    rows = [
        [name, *(f"{median(times[number]):.1f}" for number in histories)] for name, times in found.items()
    ]
    for name, once in (("all looked at, first", first), ("all looked at, every ten minutes", again)):
        rows.append([name, *(f"{once[number]:.0f}" for number in histories)])
    return rows


def history(arguments: argparse.Namespace) -> None:
    """Print the table."""
    with running_valkey() as url:
        rows = asyncio.run(measured(arguments, url))
    print(table([["ms", f"{_FEW:,} scans", f"{arguments.scans:,} scans"], *rows]))
