"""What one process finds out about an origin, all know."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.origin.controls import ITEM, A, B, eject, first, until
from workers.errors import BudgetExhausted, OriginThrottled
from workers.origin.control.fleet import Fleet
from workers.plan import FetchPlan, Lane, Origin, OriginGroup


async def test_an_ejection_by_one_process_counts_in_all(process):
    """B9: ten processes do not each need five failures."""
    one, *others = [await process() for _ in range(4)]
    eject(one)
    await until(lambda: all(first(other) == B for other in others), 3)


async def test_a_process_that_starts_later_knows_what_is_out(process):
    one = await process()
    eject(one)
    await until(lambda: not one.health.unshared())
    newcomer = await process()
    assert first(newcomer) == B


async def test_one_process_of_the_fleet_probes_and_its_success_is_known_to_all(process, connect, namespace):
    controls = [await process() for _ in range(4)]
    fleet = Fleet(connect(), namespace=namespace, process="test")
    eject(controls[0])
    await until(lambda: all(first(control) == B for control in controls), 3)
    # Its time is over: half-open, by the server's clock.
    await fleet._redis.hset(f"{namespace}:origins:out", A, f"{int(time.time() * 1000) - 50} 1 failures")
    for control in controls:
        control.health._hosts[A].until = 0.0
    monotonic = asyncio.get_running_loop().time
    asked: list[int] = []
    end = monotonic() + 4
    while monotonic() < end and not asked:
        asked += [number for number, control in enumerate(controls) if first(control) == A]
        await asyncio.sleep(0.02)
    for _ in range(50):
        asked += [number for number, control in enumerate(controls) if first(control) == A]
        await asyncio.sleep(0.02)
    assert len(asked) == 1, "one probe request, over all processes"
    controls[asked[0]].succeeded(A, 0.01)
    await until(lambda: all(first(control) == A for control in controls), 3)


async def test_a_retry_after_pauses_all_processes(process):
    """B8"""
    one, other = await process(), await process()
    (await other.acquire(A, Lane.HOT, timeout_s=1)).release()
    one.failed(A, OriginThrottled("slow", origin=A, status=429, retry_after_s=60))
    await until(lambda: other.report()["hosts"][A]["pause_s"] > 50, 3)
    with pytest.raises(BudgetExhausted) as caught:
        await other.acquire(A, Lane.COLD, timeout_s=0)
    assert 50 < caught.value.retry_after_s <= 60


async def test_an_active_probe_has_one_prober_and_its_finding_is_known_to_all(process):
    """B10"""
    controls = [await process() for _ in range(3)]
    plan = FetchPlan(
        bucket="site",
        rule="r",
        groups=(OriginGroup(primary=Origin(host=A), standbys=(Origin(host=B),)),),
        probe_url="http://a.example/health",
    )
    asked = []

    async def probe(url: str, *, trusted: bool) -> bool:
        asked.append(url)
        return False

    for control in controls:
        control.candidates(plan, ITEM)
    for _ in range(3):
        for control in controls:
            await control.probes.once(probe)
    assert len(asked) == 3
    await until(lambda: all(control.candidates(plan, ITEM)[0].host == B for control in controls), 3)
