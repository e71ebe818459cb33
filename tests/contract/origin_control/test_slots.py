"""Slots of an origin over several processes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from support.origin.controls import A, kill, until
from workers.errors import BudgetExhausted
from workers.plan import Lane
from workers.settings import BudgetSettings


async def test_concurrency_over_several_processes_is_never_over_the_budget(process):
    controls = [await process(BudgetSettings(concurrency=6)) for _ in range(3)]
    running = peak = 0
    done: Counter[int] = Counter()

    async def work(number: int, lane: Lane) -> None:
        nonlocal running, peak
        for _ in range(5):
            async with await controls[number].acquire(A, lane, timeout_s=30):
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0.002)
                running -= 1
                done[number] += 1

    await asyncio.gather(*(work(number, lane) for number in range(3) for lane in Lane for _ in range(8)))
    assert done == {0: 80, 1: 80, 2: 80}
    assert peak <= 6
    assert peak >= 4, "the budget is used, not only kept"


async def test_more_processes_than_slots_take_turns(process):
    controls = [await process(BudgetSettings(concurrency=1)) for _ in range(3)]
    stop = asyncio.get_running_loop().time() + 4
    done: Counter[int] = Counter()
    running = peak = 0

    async def work(number: int) -> None:
        nonlocal running, peak
        while asyncio.get_running_loop().time() < stop:
            async with await controls[number].acquire(A, Lane.COLD, timeout_s=30):
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0.005)
                running -= 1
                done[number] += 1

    await asyncio.gather(*(work(number) for number in range(3)))
    assert peak == 1
    assert set(done) == {0, 1, 2}, "nobody starves"


async def test_a_newcomer_gets_its_share_from_a_process_that_holds_all(process):
    one, other = await process(BudgetSettings(concurrency=8)), await process(BudgetSettings(concurrency=8))
    stop = asyncio.Event()

    async def hog() -> None:
        while not stop.is_set():
            async with await one.acquire(A, Lane.HOT, timeout_s=30):
                await asyncio.sleep(0.01)

    hogs = [asyncio.create_task(hog()) for _ in range(20)]
    await until(lambda: one.report()["hosts"].get(A, {}).get("leased") == 8)
    slots = [await other.acquire(A, Lane.HOT, timeout_s=10) for _ in range(3)]
    for slot in slots:
        slot.release()
    stop.set()
    await asyncio.gather(*hogs)


async def test_hot_is_not_blocked_by_cold_work_of_another_process(process):
    scanner, front = (
        await process(BudgetSettings(concurrency=4)),
        await process(BudgetSettings(concurrency=4)),
    )
    cold = [await scanner.acquire(A, Lane.COLD, timeout_s=5) for _ in range(3)]
    with pytest.raises(BudgetExhausted):
        await scanner.acquire(A, Lane.COLD, timeout_s=0.3)
    async with await front.acquire(A, Lane.HOT, timeout_s=2):
        pass
    for slot in cold:
        slot.release()


async def test_slots_of_a_killed_process_come_back_when_its_lease_ends(process):
    """G5, issue: leaked leases free themselves within 30 s (here 1 s)."""
    budget = BudgetSettings(concurrency=4)
    victim = await process(budget, lease_s=1.0)
    for _ in range(4):
        await victim.acquire(A, Lane.HOT, timeout_s=5)
    heir = await process(budget, lease_s=1.0)
    with pytest.raises(BudgetExhausted):
        await heir.acquire(A, Lane.HOT, timeout_s=0.5)
    await kill(victim)
    slots = [await heir.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)]
    assert len(slots) == 4


async def test_slots_that_are_not_used_go_back_within_seconds(process):
    budget = BudgetSettings(concurrency=4)
    one, other = await process(budget), await process(budget)
    for slot in [await one.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)]:
        slot.release()
    slots = [await other.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)]
    assert len(slots) == 4


async def test_a_long_lease_is_never_longer_than_thirty_seconds(process):
    control = await process(lease_s=600.0)
    assert control._around.lease_s == 30.0
