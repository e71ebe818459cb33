"""Several processes' controls over one Redis: the same promises on fakeredis and on a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter

import fakeredis
import pytest
import redis.asyncio

from support.patience import PATIENCE_S
from workers.errors import BrokerUnavailable, BudgetExhausted, OriginThrottled, OriginUnreachable
from workers.origin.control.control import OriginControl
from workers.origin.control.fleet import Fleet
from workers.origin.control.limits import Limits
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import BudgetSettings, OriginSettings

A, B = "a.example", "b.example"
ITEM = FetchItem(key="k", path="k", pick=0)
PLAN = FetchPlan(
    bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host=A)), OriginGroup(primary=Origin(host=B)))
)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
async def connect(request):
    """Makes clients of one server, as separate processes would."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "real":
            url = request.getfixturevalue("valkey_url")
            clients = lambda: redis.asyncio.Redis.from_url(url, db=1)  # noqa: E731 - a line is enough
        else:
            server = fakeredis.FakeServer()
            clients = lambda: fakeredis.FakeAsyncRedis(server=server)  # noqa: E731 - a line is enough

        def make():
            client = clients()
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def process(connect, namespace):
    """Starts an OriginControl with a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(budget: BudgetSettings | None = None, **options) -> OriginControl:
            settings = OriginSettings(
                adaptive=False, budgets={"default": budget} if budget else {}, **options.pop("settings", {})
            )
            control = OriginControl(settings, redis=connect(), namespace=namespace, **options)
            return await stack.enter_async_context(control)

        yield start


async def until(condition, within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the state is Redis's, nobody can set an event
            await asyncio.sleep(0.02)


def first(control: OriginControl) -> str:
    return control.candidates(PLAN, ITEM)[0].host


async def kill(control: OriginControl) -> None:
    """What SIGKILL does: nothing is given back, nothing is renewed."""
    for task in control._tasks:
        task.cancel()
    await asyncio.gather(*control._tasks, return_exceptions=True)
    control._tasks.clear()
    for budget in control._hosts.values():
        budget._closed = True
        if budget._chaser is not None:
            budget._chaser.cancel()
            await asyncio.gather(budget._chaser, return_exceptions=True)
    control._hosts.clear()


# ---------------------------------------------------------------- concurrency


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


# ---------------------------------------------------------------- rates


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


# ---------------------------------------------------------------- ejections


def eject(control, host=A):
    for _ in range(5):
        control.failed(host, OriginUnreachable("refused", origin=host))


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


# ---------------------------------------------------------------- reports, and Redis away


async def test_processes_leave_reports_and_withdraw_them(process, connect, namespace):
    control = await process()
    (await control.acquire(A, Lane.HOT, timeout_s=1)).release()
    control.succeeded(A, 0.02)
    fleet = Fleet(connect(), namespace=namespace, process="reader")
    assert len(await fleet.reports()) == 1
    await control.close()
    assert await fleet.reports() == []


class Flaky:
    """Stands between a control and its Redis, and can be cut."""

    def __init__(self, fleet: Fleet, monkeypatch) -> None:
        self.cut = False
        run = fleet._run

        async def maybe(script, key, args):
            if self.cut:
                raise BrokerUnavailable("cut")
            return await run(script, key, args)

        monkeypatch.setattr(fleet, "_run", maybe)


async def test_without_redis_each_process_keeps_its_last_share_and_comes_back(process, monkeypatch):
    one, other = await process(BudgetSettings(concurrency=8)), await process(BudgetSettings(concurrency=8))
    held = [
        *[await one.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)],
        *[await other.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)],
    ]
    lines = [Flaky(control._fleet, monkeypatch) for control in (one, other)]
    for line in lines:
        line.cut = True
    for control in (one, other):
        await control._sync()
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0.3)
    for slot in held:
        slot.release()
    for control in (one, other):
        await control._sync()
        slots = [await control.acquire(A, Lane.HOT, timeout_s=0.3) for _ in range(4)]
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0)
        for slot in slots:
            slot.release()
    for line in lines:
        line.cut = False
    slots = [await one.acquire(A, Lane.HOT, timeout_s=12) for _ in range(8)]
    assert len(slots) == 8


async def test_ejections_decided_while_redis_was_away_are_published_afterwards(process, monkeypatch):
    one, other = await process(), await process()
    line = Flaky(one._fleet, monkeypatch)
    line.cut = True
    eject(one)
    await one._sync()
    assert first(one) == B
    assert first(other) == A
    line.cut = False
    await until(lambda: first(other) == B, 4)


async def test_a_server_that_is_not_there_costs_nothing_but_the_sharing():
    client = redis.asyncio.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=None)
    settings = OriginSettings(
        adaptive=False, budgets={A: BudgetSettings(concurrency=16, requests_per_s=1000)}
    )
    async with OriginControl(settings, redis=client) as control:
        assert first(control) == A
        slots = [await control.acquire(A, Lane.HOT, timeout_s=5) for _ in range(2)]
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0.2)
        for slot in slots:
            slot.release()
    await client.aclose()


# ---------------------------------------------------------------- scripts


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
