"""Requests and bytes a second of an origin over several processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.origin.controls import A
from workers.origin.control.fleet import Fleet
from workers.plan import Lane
from workers.settings import BudgetSettings

if TYPE_CHECKING:
    from workers.origin.control.control import OriginControl


async def test_requests_a_second_hold_over_several_processes(process):
    controls = [await process(BudgetSettings(requests_per_s=200)) for _ in range(3)]
    loop = asyncio.get_running_loop()
    done: list[float] = []
    stop = loop.time() + 3.5

    async def work(control: OriginControl) -> None:
        while loop.time() < stop:
            async with await control.acquire(A, Lane.COLD, timeout_s=5):
                done.append(loop.time())

    await asyncio.gather(*(work(control) for control in controls for _ in range(4)))
    began = done[0] + 0.5
    steady = [at for at in done if began <= at < began + 2.5]
    assert 200 * 2.5 * 0.9 <= len(steady) <= 200 * 2.5 * 1.1


async def test_bytes_a_second_hold_over_several_processes(process):
    controls = [await process(BudgetSettings(bytes_per_s="4MB/s")) for _ in range(3)]
    loop = asyncio.get_running_loop()
    moved: list[tuple[float, int]] = []
    stop = loop.time() + 3.5

    async def work(control: OriginControl) -> None:
        async with await control.acquire(A, Lane.COLD, timeout_s=5) as slot:
            while loop.time() < stop:
                await slot.pace(65_536)
                moved.append((loop.time(), 65_536))

    await asyncio.gather(*(work(control) for control in controls for _ in range(2)))
    began = moved[0][0] + 0.5
    steady = sum(n for at, n in moved if began <= at < began + 2.5)
    assert 4e6 * 2.5 * 0.9 <= steady <= 4e6 * 2.5 * 1.1


async def test_hot_finds_tokens_while_cold_takes_all_it_can(process):
    scanner, front = (
        await process(BudgetSettings(requests_per_s=40)),
        await process(BudgetSettings(requests_per_s=40)),
    )
    stop = asyncio.Event()

    async def cold() -> None:
        while not stop.is_set():
            async with await scanner.acquire(A, Lane.COLD, timeout_s=30):
                pass

    tasks = [asyncio.create_task(cold()) for _ in range(8)]
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    waits = []
    for _ in range(10):
        began = loop.time()
        async with await front.acquire(A, Lane.HOT, timeout_s=5):
            waits.append(loop.time() - began)
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*tasks)
    assert sorted(waits)[5] < 0.15


async def test_a_budget_without_values_never_asks_redis(process, monkeypatch):
    calls = []
    control = await process()
    monkeypatch.setattr(Fleet, "lease", lambda *_a, **_k: calls.append("lease"))
    monkeypatch.setattr(Fleet, "take", lambda *_a, **_k: calls.append("take"))
    for _ in range(100):
        async with await control.acquire(A, Lane.HOT, timeout_s=0) as slot:
            await slot.pace(1000)
    await control._sync()
    assert calls == []


async def test_redis_is_not_asked_for_every_request(process, monkeypatch):
    calls = []
    control = await process(BudgetSettings(concurrency=4, requests_per_s=10_000, bytes_per_s="1GB/s"))
    run = Fleet._run

    async def counted(self, *args):
        calls.append(args)
        return await run(self, *args)

    monkeypatch.setattr(Fleet, "_run", counted)
    for _ in range(1000):
        async with await control.acquire(A, Lane.HOT, timeout_s=5) as slot:
            await slot.pace(1000)
    assert len(calls) < 30
