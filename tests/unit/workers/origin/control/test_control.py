"""One process's control of its origins, without Redis: choosing, waiting, learning."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime

import pytest

from workers.errors import (
    BudgetExhausted,
    DigestMismatch,
    OriginStatus,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from workers.origin.control.control import OriginControl
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import BudgetSettings, OriginSettings

ITEM = FetchItem(key="k", path="k")
A, B, A1, A2, B1 = "a.example", "b.example", "a1.example", "a2.example", "b1.example"


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def plan_of(*groups: tuple[str, ...], **fields: object) -> FetchPlan:
    return FetchPlan(
        bucket="site",
        rule="r",
        groups=tuple(
            OriginGroup(primary=Origin(host=first), standbys=tuple(Origin(host=name) for name in rest))
            for first, *rest in groups
        ),
        **fields,
    )


def control_with(clock, budget: BudgetSettings | None = None, **fields: object) -> OriginControl:
    budgets = {} if budget is None else {"default": budget}
    options = {name: fields.pop(name) for name in ("hot_share", "adaptive") if name in fields}
    return OriginControl(OriginSettings(budgets=budgets, **options), clock=clock, **fields)


def hosts(control, plan, item=ITEM):
    return [origin.host for origin in control.candidates(plan, item)]


def eject(control, host):
    for _ in range(5):
        control.failed(host, OriginUnreachable("refused", origin=host))


def picked(index):
    return FetchItem(key="k", path="k", pick=index)


# ---------------------------------------------------------------- choosing


async def test_a_dispatchers_pick_is_honoured_while_its_primary_is_well(clock):
    control = control_with(clock)
    plan = plan_of((A, A1), (B, B1))
    assert hosts(control, plan, picked(1)) == [B, B1]
    eject(control, B)
    assert hosts(control, plan, picked(1)) == [A, A1]


async def test_b9_picks_go_to_the_other_primaries_while_one_is_ejected(clock):
    control = control_with(clock)
    plan = plan_of((A, A1), (B, B1))
    eject(control, A)
    assert {control.pick(plan) for _ in range(10)} == {1}
    assert [hosts(control, plan) for _ in range(3)] == [[B, B1]] * 3


async def test_b9_without_any_primary_the_standbys_of_the_picked_group_are_asked(clock):
    control = control_with(clock)
    plan = plan_of((A, A1, A2), (B, B1))
    eject(control, A)
    eject(control, B)
    assert hosts(control, plan, picked(0)) == [A1, A2]
    assert hosts(control, plan, picked(1)) == [B1]
    eject(control, A1)
    assert hosts(control, plan, picked(0)) == [A2]


async def test_b9_fails_open_to_the_host_whose_ejection_ends_first(clock):
    control = control_with(clock)
    plan = plan_of((A, A1), (B,))
    for host in (A, A1, B):
        eject(control, host)
        clock.now += 5
    assert hosts(control, plan, picked(0)) == [A]
    assert hosts(control, plan, picked(1)) == [B] or hosts(control, plan, picked(1)) == [A]


async def test_b8_a_half_open_host_is_handed_to_one_caller(clock):
    control = control_with(clock)
    plan = plan_of((A,), (B,))
    eject(control, A)
    clock.now += 30
    first = Counter(hosts(control, plan, picked(0))[0] for _ in range(20))
    assert first == {A: 1, B: 19}
    control.succeeded(A, 0.01)
    assert hosts(control, plan, picked(0)) == [A]


async def test_b8_a_failed_probe_ejects_at_once_and_for_longer(clock):
    control = control_with(clock)
    plan = plan_of((A,), (B,))
    eject(control, A)
    clock.now += 30
    assert hosts(control, plan, picked(0)) == [A]
    control.failed(A, OriginTimeout("slow", origin=A))
    clock.now += 59
    assert hosts(control, plan, picked(0)) == [B]
    clock.now += 2
    assert hosts(control, plan, picked(0)) == [A]


async def test_b8_a_digest_difference_ejects_at_once(clock):
    control = control_with(clock)
    control.failed(A, DigestMismatch("x", origin=A, algorithm="md5", expected="0", actual="1"))
    assert hosts(control, plan_of((A,), (B,)), picked(0)) == [B]


async def test_an_ejected_standby_is_left_out(clock):
    control = control_with(clock)
    eject(control, A1)
    assert hosts(control, plan_of((A, A1, A2)), picked(0)) == [A, A2]


async def test_p50_clients_that_leave_early_eject_nobody(clock):
    """A client's departure is reported to nobody: the slot closes, the host's standing does not change."""
    control = control_with(clock)
    plan = plan_of((A,))

    async def left_early() -> None:
        async with await control.acquire(A, Lane.HOT, timeout_s=1) as slot:
            await slot.pace(10)
            raise ConnectionResetError

    for _ in range(100):
        with pytest.raises(ConnectionResetError):
            await left_early()
    assert hosts(control, plan) == [A]
    assert control.health.ejections() == []
    assert control.report()["hosts"][A]["in_flight"] == 0


async def test_p44_ten_minutes_of_429_spend_no_attempt_and_hardly_ask(clock):
    """A worker's loop, on a fake clock: an item meets `BudgetExhausted`, which costs no attempt."""
    control = control_with(clock)
    plan = plan_of((A,))
    ends = clock.now + 600
    asked = moved = 0
    waiting = 100
    while waiting:
        host = hosts(control, plan)[0]
        try:
            slot = await control.acquire(host, Lane.COLD, timeout_s=0)
        except BudgetExhausted as error:
            clock.now += error.retry_after_s
            continue
        async with slot:
            if clock.now < ends:
                asked += 1
                control.failed(host, OriginThrottled("slow", origin=host, status=429, retry_after_s=None))
            else:
                control.succeeded(host, 0.01)
                waiting -= 1
                moved += 1
        clock.now += 0.01
    assert moved == 100
    assert asked < 40, "pauses double up to 30 s"


@pytest.mark.parametrize("code", [429, 503])
async def test_b8_nothing_is_asked_for_the_time_of_a_retry_after(clock, code):
    control = control_with(clock)
    control.failed(A, OriginThrottled("slow", origin=A, status=code, retry_after_s=120))
    for lane in Lane:
        with pytest.raises(BudgetExhausted) as caught:
            await control.acquire(A, lane, timeout_s=0)
        assert caught.value.retry_after_s == 120
    clock.now += 120
    async with await control.acquire(A, Lane.COLD, timeout_s=0):
        pass


# ---------------------------------------------------------------- waiting


async def test_concurrency_is_never_over_its_budget(clock):
    control = control_with(clock, BudgetSettings(concurrency=4), adaptive=False)
    running = peak = 0

    async def one(lane: Lane) -> None:
        nonlocal running, peak
        async with await control.acquire(A, lane, timeout_s=10):
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(one(lane) for lane in Lane for _ in range(50)))
    assert peak == 4


async def test_cold_work_never_takes_the_share_of_hot(clock):
    control = control_with(clock, BudgetSettings(concurrency=8), adaptive=False, hot_share=0.25)
    cold = [await control.acquire(A, Lane.COLD, timeout_s=0.2) for _ in range(6)]
    with pytest.raises(BudgetExhausted):
        await control.acquire(A, Lane.COLD, timeout_s=0)
    hot = [await control.acquire(A, Lane.HOT, timeout_s=0.2) for _ in range(2)]
    with pytest.raises(BudgetExhausted):
        await control.acquire(A, Lane.HOT, timeout_s=0)
    for slot in cold + hot:
        slot.release()
        slot.release()
    assert control.report()["hosts"][A]["in_flight"] == 0


async def test_hot_overtakes_cold_in_the_line(clock):
    control = control_with(clock, BudgetSettings(concurrency=1), adaptive=False)
    order = []

    async def one(name: str, lane: Lane) -> None:
        async with await control.acquire(A, lane, timeout_s=5):
            order.append(name)

    slot = await control.acquire(A, Lane.COLD, timeout_s=1)
    tasks = [asyncio.create_task(one("cold", Lane.COLD)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(one("hot", Lane.HOT)) for _ in range(2)]
    await asyncio.sleep(0)
    slot.release()
    await asyncio.gather(*tasks)
    assert order == ["hot", "hot", "cold", "cold"]


async def test_a_cancelled_wait_leaks_no_slot(clock):
    control = control_with(clock, BudgetSettings(concurrency=1), adaptive=False)
    slot = await control.acquire(A, Lane.HOT, timeout_s=1)
    waiters = [asyncio.create_task(control.acquire(A, Lane.HOT, timeout_s=60)) for _ in range(20)]
    await asyncio.sleep(0)
    for waiter in waiters[:10]:
        waiter.cancel()
    slot.release()
    for waiter in waiters[10:15]:
        waiter.cancel()
    for waiter in waiters[15:]:
        (await waiter).release()
    await asyncio.gather(*waiters, return_exceptions=True)
    async with await control.acquire(A, Lane.HOT, timeout_s=0):
        assert control.report()["hosts"][A]["in_flight"] == 1


async def test_a_wait_that_was_granted_and_cancelled_at_once_gives_the_slot_back(clock):
    control = control_with(clock, BudgetSettings(concurrency=1), adaptive=False)
    slot = await control.acquire(A, Lane.HOT, timeout_s=1)
    waiter = asyncio.create_task(control.acquire(A, Lane.HOT, timeout_s=60))
    await asyncio.sleep(0)
    slot.release()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    (await control.acquire(A, Lane.HOT, timeout_s=0)).release()


async def test_a_wait_ends_with_budget_exhausted_and_a_time_to_come_back(clock):
    """A25"""
    control = control_with(clock, BudgetSettings(concurrency=1), adaptive=False)
    async with await control.acquire(A, Lane.HOT, timeout_s=0):
        with pytest.raises(BudgetExhausted) as caught:
            await control.acquire(A, Lane.HOT, timeout_s=0.01)
    assert caught.value.retry_after_s >= 1


async def test_a_closed_window_lets_nothing_through(clock):
    control = control_with(
        clock,
        BudgetSettings(windows=["08:00-20:00: 0 connections"]),
        now=lambda: datetime(2026, 11, 23, 12),  # noqa: DTZ001 - a wall clock without a place
    )
    with pytest.raises(BudgetExhausted):
        await control.acquire(A, Lane.HOT, timeout_s=0)


async def test_a_window_that_ends_lets_the_waiting_through(clock):
    times = [datetime(2026, 11, 23, 19, 59)]  # noqa: DTZ001 - a wall clock without a place
    control = control_with(
        clock, BudgetSettings(windows=["08:00-20:00: 0 connections"]), now=lambda: times[-1]
    )
    async with control:
        waiting = asyncio.create_task(control.acquire(A, Lane.COLD, timeout_s=5))
        await asyncio.sleep(0)
        assert not waiting.done()
        times.append(datetime(2026, 11, 23, 20, 0))  # noqa: DTZ001 - a wall clock without a place
        (await waiting).release()


async def test_the_adaptive_limit_halves_on_distress_and_holds_back_the_rest(clock):
    control = control_with(clock)
    slots = [await control.acquire(A, Lane.HOT, timeout_s=0) for _ in range(16)]
    with pytest.raises(BudgetExhausted):
        await control.acquire(A, Lane.HOT, timeout_s=0)
    control.failed(A, OriginTimeout("slow", origin=A))
    for slot in slots[:8]:
        slot.release()
    with pytest.raises(BudgetExhausted):
        await control.acquire(A, Lane.HOT, timeout_s=0)
    slots[8].release()
    (await control.acquire(A, Lane.HOT, timeout_s=0)).release()


async def test_a_404_leaves_health_and_limit_alone(clock):
    control = control_with(clock)
    for _ in range(100):
        control.failed(A, OriginStatus("gone", origin=A, status=404))
    assert hosts(control, plan_of((A,), (B,)), picked(0)) == [A]
    assert control.report()["hosts"][A]["adaptive_limit"] == 16


async def test_requests_a_second_hold_in_one_process():
    control = OriginControl(OriginSettings(adaptive=False, budgets={A: BudgetSettings(requests_per_s=100)}))
    loop = asyncio.get_running_loop()
    done = 0
    began = loop.time()
    while loop.time() - began < 1.5:
        async with await control.acquire(A, Lane.COLD, timeout_s=5):
            done += 1
    assert 100 <= done <= 100 * 1.5 * 1.1 + 25, "the rate, and at most one burst"


async def test_bytes_a_second_pace_a_transfer():
    control = OriginControl(
        OriginSettings(adaptive=False, budgets={A: BudgetSettings(bytes_per_s=1_000_000)})
    )
    loop = asyncio.get_running_loop()
    async with await control.acquire(A, Lane.COLD, timeout_s=5) as slot:
        began = loop.time()
        for _ in range(20):
            await slot.pace(65_536)
        took = loop.time() - began
    assert 0.8 <= took <= 1.7, "1.31 MB at 1 MB/s with a burst of a quarter second"


# ---------------------------------------------------------------- probes


async def test_b10_three_bad_probes_put_the_standby_first_and_two_good_restore(clock):
    answers = []
    asked = []

    async def probe(url: str, *, trusted: bool) -> bool:
        asked.append((url, trusted))
        return answers.pop(0)

    control = control_with(clock)
    plan = plan_of((A, A1), probe_url="http://a.example/health", trusted_hosts=True)
    seen = [hosts(control, plan)[0]]
    for answer in (False, False, True, False, False, False, True, False, True, True):
        answers.append(answer)
        await control.probes.once(probe)
        seen.append(hosts(control, plan)[0])
    assert seen == [A, A, A, A, A, A, A1, A1, A1, A1, A]
    assert set(asked) == {("http://a.example/health", True)}


async def test_b10_a_probe_that_raises_or_hangs_is_bad(clock, monkeypatch):
    monkeypatch.setattr("workers.origin.control.probes.PROBE_TIMEOUT_S", 0.01)

    async def broken(url: str, *, trusted: bool) -> bool:
        raise OSError("refused")

    async def hanging(url: str, *, trusted: bool) -> bool:
        await asyncio.sleep(30)
        return True

    control = control_with(clock)
    plan = plan_of((A, A1), probe_url="http://a.example/health")
    hosts(control, plan)
    for probe in (broken, hanging, broken):
        await control.probes.once(probe)
    assert hosts(control, plan)[0] == A1


async def test_a_probe_counts_against_the_budget_and_is_left_out_when_there_is_no_room(clock, monkeypatch):
    monkeypatch.setattr("workers.origin.control.probes.PROBE_TIMEOUT_S", 0.01)
    asked = []

    async def probe(url: str, *, trusted: bool) -> bool:
        asked.append(url)
        return False

    control = control_with(clock, BudgetSettings(concurrency=1), adaptive=False)
    plan = plan_of((A, A1), probe_url="http://a.example/health")
    hosts(control, plan)
    async with await control.acquire(A, Lane.HOT, timeout_s=0):
        for _ in range(5):
            await control.probes.once(probe)
    assert asked == []
    assert hosts(control, plan)[0] == A


async def test_probe_urls_that_no_plan_names_are_forgotten(clock):
    async def probe(url: str, *, trusted: bool) -> bool:
        raise AssertionError("nobody names it any more")

    control = control_with(clock)
    hosts(control, plan_of((A, A1), probe_url="http://a.example/health"))
    clock.now += 601
    await control.probes.once(probe)
    assert control.probes._urls == {}


# ---------------------------------------------------------------- life


async def test_start_and_close_leave_no_task_behind(clock):
    before = asyncio.all_tasks()
    control = control_with(clock, probe=None)
    await control.start()
    await control.start()
    assert len(asyncio.all_tasks() - before) == 1
    await control.close()
    await control.close()
    assert asyncio.all_tasks() == before


async def test_hosts_that_nobody_asks_for_are_forgotten(clock):
    control = control_with(clock)
    (await control.acquire(A, Lane.HOT, timeout_s=0)).release()
    held = await control.acquire(B, Lane.HOT, timeout_s=0)
    await control._sync()
    clock.now += 601
    await control._sync()
    assert set(control.report()["hosts"]) == {B}
    held.release()
