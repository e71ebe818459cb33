"""The steps of the fleet on the server, one by one."""

from __future__ import annotations

import asyncio

from support.origin.controls import A
from workers.origin.control.fleet import Fleet
from workers.origin.control.limits import Limits
from workers.plan import Lane
from workers.settings import BudgetSettings


async def test_the_sum_of_leases_is_never_over_the_slots(connect, namespace):
    fleets = [Fleet(connect(), namespace=namespace, process=f"p{number}") for number in range(5)]
    limits = Limits(concurrency=7)
    held = [(0, 0)] * 5
    for turn in range(60):
        number = turn % 5
        wanted = ((turn * 7) % 6, (turn * 5) % 6)
        lease = await fleets[number].lease(A, limits, cold_slots=5, using=(0, 0), wanted=wanted, ttl_s=10)
        held[number] = (lease.hot, lease.cold)
        assert lease.hot <= wanted[0]
        assert lease.cold <= wanted[1]
        assert sum(hot + cold for hot, cold in held) <= 7
        assert sum(cold for _, cold in held) <= 5


async def test_what_is_in_use_stays_on_the_books_when_the_budget_shrinks(connect, namespace):
    one = Fleet(connect(), namespace=namespace, process="one")
    lease = await one.lease(A, Limits(concurrency=8), cold_slots=6, using=(0, 0), wanted=(4, 4), ttl_s=10)
    assert (lease.hot, lease.cold) == (4, 4)
    fewer = Limits(concurrency=2)
    lease = await one.lease(A, fewer, cold_slots=1, using=(4, 4), wanted=(4, 4), ttl_s=10)
    assert (lease.hot, lease.cold) == (2, 0), "nothing new until six have ended"
    other = Fleet(connect(), namespace=namespace, process="other")
    lease = await other.lease(A, fewer, cold_slots=1, using=(0, 0), wanted=(1, 0), ttl_s=10)
    assert (lease.hot, lease.cold) == (0, 0)
    await one.lease(A, fewer, cold_slots=1, using=(1, 0), wanted=(1, 0), ttl_s=10)
    lease = await other.lease(A, fewer, cold_slots=1, using=(0, 0), wanted=(1, 0), ttl_s=10)
    assert (lease.hot, lease.cold) == (1, 0)


async def test_a_process_that_does_not_renew_is_told_apart_until_its_lease_ends(connect, namespace):
    ask = {"cold_slots": 0, "using": (0, 0), "wanted": (0, 0)}
    one, other = (Fleet(connect(), namespace=namespace, process=name) for name in ("one", "other"))
    await one.lease(A, Limits(), **ask, ttl_s=1.0)
    lease = await other.lease(A, Limits(), **ask, ttl_s=1.0)
    assert (lease.members, lease.silent) == (2, 0)
    await asyncio.sleep(0.7)
    lease = await other.lease(A, Limits(), **ask, ttl_s=1.0)
    assert (lease.members, lease.silent) == (2, 1)
    await asyncio.sleep(0.5)
    lease = await other.lease(A, Limits(), **ask, ttl_s=1.0)
    assert (lease.members, lease.silent) == (1, 0)


async def test_tokens_larger_than_the_burst_are_lent_and_earned_back(connect, namespace):
    fleet = Fleet(connect(), namespace=namespace, process="one")
    ask = {"rate": 1000.0, "burst": 250.0, "floor": 0.0, "want": 5000.0, "least": 5000.0}
    got, _ = await fleet.take(A, "bytes", **ask)
    assert got == 5000
    got, wait_s = await fleet.take(A, "bytes", **ask)
    assert got == 0
    assert 4.8 <= wait_s <= 5.1


async def test_keys_expire_by_themselves(process, connect, namespace):
    control = await process(BudgetSettings(concurrency=4, requests_per_s=100, bytes_per_s=1000))
    async with await control.acquire(A, Lane.HOT, timeout_s=5) as slot:
        await slot.pace(10)
    client = connect()
    keys = [key async for key in client.scan_iter(match=f"{namespace}:origin:*")]
    assert len(keys) == 2
    assert all([0 < await client.pttl(key) <= 60_000 for key in keys])
