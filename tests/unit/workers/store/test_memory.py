"""Byte budgets: first come, first served, never more than the limit, nothing lost to cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest

from workers.errors import ObjectTooLarge
from workers.store.memory import MemoryBudget
from workers.store.write.parts import MAX_PARTS, MIB, growing_part_bytes, uniform_part_bytes


async def test_waiting_is_in_order_and_a_large_wish_is_not_overtaken():
    budget = MemoryBudget(100)
    first = await budget.reserve(80)
    order: list[str] = []

    async def want(name: str, n_bytes: int) -> None:
        async with await budget.reserve(n_bytes):
            order.append(name)

    tasks = [asyncio.create_task(want("large", 90)), asyncio.create_task(want("small", 10))]
    await asyncio.sleep(0)
    assert budget.waiting == 2
    assert budget.try_reserve(1) is None
    first.release()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]
    assert budget.used_bytes == 0


async def test_cancelled_wish_gives_its_turn_to_the_next():
    budget = MemoryBudget(100)
    held = await budget.reserve(60)
    large = asyncio.create_task(budget.reserve(90))
    small = asyncio.create_task(budget.reserve(40))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    (await small).release()
    held.release()
    held.release()
    assert budget.used_bytes == 0


async def test_cancellation_in_the_moment_of_the_turn_loses_nothing():
    budget = MemoryBudget(100)
    held = await budget.reserve(100)
    late = asyncio.create_task(budget.reserve(50))
    await asyncio.sleep(0)
    held.release()  # the turn is given …
    late.cancel()  # … and refused
    await asyncio.gather(late, return_exceptions=True)
    assert budget.used_bytes == 0
    (await budget.reserve(100)).release()


async def test_random_use_stays_below_the_limit_and_ends_at_zero():
    budget = MemoryBudget(1000)
    rng = random.Random(7)

    async def user() -> None:
        for _ in range(50):
            async with await budget.reserve(rng.randint(0, 400), ahead=rng.random() < 0.5) as lease:
                assert budget.used_bytes <= 1000
                await asyncio.sleep(0)
                lease.shrink(rng.randint(0, 400))

    await asyncio.gather(*(user() for _ in range(20)))
    assert budget.used_bytes == 0
    assert budget.peak_bytes <= 1000


async def test_who_takes_bytes_ahead_leaves_some_for_those_who_have_begun():
    budget = MemoryBudget(100, kept_bytes=20)
    held = [await budget.reserve(40, ahead=True) for _ in range(2)]
    waits = asyncio.create_task(budget.reserve(10, ahead=True))
    await asyncio.sleep(0)
    assert (budget.waiting, budget.used_bytes) == (1, 80)
    begun = await budget.reserve(20)
    next_part = asyncio.create_task(budget.reserve(60))
    await asyncio.sleep(0)
    begun.release()
    held.pop().release()
    (await next_part).release()  # before the one that waited longer, and has not begun
    (await waits).release()
    held.pop().release()
    assert budget.used_bytes == 0
    with pytest.raises(ValueError, match="budget of 80"):
        await budget.reserve(81, ahead=True)


async def test_who_waits_for_a_slot_with_a_first_part_does_not_stop_those_who_have_one():
    """Objects in several parts: each gives its slot back after its last part only."""
    budget, slots, done = MemoryBudget(64, kept_bytes=8), asyncio.Semaphore(1), 0

    async def move() -> None:
        nonlocal done
        part = await budget.reserve(8, ahead=True)
        async with slots:
            for _ in range(3):
                await asyncio.sleep(0)
                part.release()
                part = await budget.reserve(8)
            part.release()
        done += 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(move() for _ in range(40)))
    assert (done, budget.used_bytes) == (40, 0)


async def test_more_than_the_whole_budget_is_refused_at_once():
    with pytest.raises(ValueError, match="budget"):
        await MemoryBudget(10).reserve(11)


@pytest.mark.parametrize(
    ("size", "base", "part"),
    [
        (1, 8 * MIB, 8 * MIB),
        (80_000 * MIB, 8 * MIB, 8 * MIB),
        (80_000 * MIB + 1, 8 * MIB, 9 * MIB),
        (5 * 1024**4, 8 * MIB, 525 * MIB),
    ],
)
def test_known_length_gets_one_part_size_that_needs_at_most_10000_parts(size, base, part):
    assert uniform_part_bytes(size, base) == part
    assert -(-size // part) <= MAX_PARTS


def test_unknown_length_grows_to_5_tib_within_10000_parts():
    total = sum(growing_part_bytes(number, 8 * MIB) for number in range(1, MAX_PARTS + 1))
    assert total >= 5 * 1024**4
    assert growing_part_bytes(1000, 8 * MIB) == 8 * MIB
    assert growing_part_bytes(9999, 8 * MIB, uniform=True) == 8 * MIB


def test_what_no_part_size_can_hold_is_too_large():
    """L12."""
    with pytest.raises(ObjectTooLarge):
        uniform_part_bytes(49 * 1024**4, 8 * MIB)
    with pytest.raises(ObjectTooLarge):
        growing_part_bytes(10_001, 8 * MIB)
