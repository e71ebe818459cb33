"""An idle process takes part in a scan that is cut as soon as there is something for it, not at a look."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from scheduler.scan.run import Coordinator
from scheduler.scan.service import ScanService, scan_options
from scheduler.scan.shards.lane import SCAN_LANE, THREADS, ShardLane, queue_shard, shard_waits
from scheduler.scan.shards.records import capacity
from scheduler.scan.verify.verify import RUNS
from support.installation import eventually
from support.scan.shards import put, records, shards_of
from workers.background import end
from workers.errors import BrokerUnavailable

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KEYS = [f"k{n:05}" for n in range(3_000)]


@contextlib.asynccontextmanager
async def serving(fleet, **options):
    """`scan serve` in this process, once it has looked and found nothing."""
    stop = asyncio.Event()
    running = asyncio.create_task(ScanService(fleet.services).serve(stop, only_shards=True, **options))

    async def counted_on():
        return await capacity(fleet.services.redis, fleet.settings.broker.namespace) > 0

    try:
        await eventually(counted_on, "it says that it would run shards")
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def requested(fleet, **options):
    given = {"bucket": fleet.bucket, "inventory": {"bucket": "other"}, "dry_run": True, **options}
    return await fleet.scans.start("s", scan_options(fleet.settings, "s", given))


async def test_an_idle_process_runs_shards_as_soon_as_there_are_any(bytes_fleet, bytes_store, monkeypatch):
    monkeypatch.setattr("scheduler.scan.service.LOOK_S", 30.0)
    fleet = bytes_fleet
    put(bytes_store, KEYS)
    async with serving(fleet):
        state = await requested(fleet, shards=4)
        scans = fleet.scans
        began = asyncio.get_running_loop().time()
        # It coordinates, and works off no shard itself.
        coordinator = Coordinator(fleet.services, scans.states, state, directory=fleet.settings.data_dir)
        assert await asyncio.wait_for(coordinator.run(), 90)
        took_s = asyncio.get_running_loop().time() - began
    report = await fleet.report("s")
    assert (report["phase"], report["total"]["present"]) == ("done", len(KEYS)), report
    _, shards = await shards_of(fleet)
    assert len(shards) == 4
    assert took_s < 25.0, "it did not wait for its next look"


async def coordinated_elsewhere(fleet, state):
    """A coordinator that works off no shard, once it has the lease."""
    scans = fleet.scans
    coordinator = Coordinator(fleet.services, scans.states, state, directory=fleet.settings.data_dir)
    running = asyncio.create_task(coordinator.run())
    await eventually(lambda: scans.states.coordinator("s"), "it coordinates")
    return running


async def test_who_waits_for_a_scan_that_another_coordinates_runs_shards_of_it(bytes_fleet, bytes_store):
    fleet = bytes_fleet
    put(bytes_store, KEYS)
    running = await coordinated_elsewhere(fleet, await requested(fleet, shards=4))
    try:
        assert not await asyncio.wait_for(fleet.scans.coordinate("s"), 60)
        assert (await fleet.report("s"))["phase"] == "done", "it did not leave before the end"
    finally:
        await end(running)


async def test_a_process_that_ends_leaves_its_shards_to_others_at_once(bytes_fleet, bytes_store, monkeypatch):
    monkeypatch.setattr("scheduler.scan.shards.cutting._AGAIN_S", 3_600.0)
    fleet = bytes_fleet
    put(bytes_store, KEYS)
    state = await requested(fleet, shards=3)
    running = await coordinated_elsewhere(fleet, state)

    async def under_way():
        return len(await records(fleet, state.run).held([0, 1, 2])) == 3

    try:
        lane = ShardLane(fleet.services, fleet.settings.data_dir, runs=RUNS)
        async with lane.working():
            bytes_store.takes_s["list"] = 30.0
            await eventually(under_way, "all shards are run here")
        bytes_store.takes_s.clear()
        assert (await fleet.services.queue.depth(SCAN_LANE)).waiting == 3
        async with ShardLane(fleet.services, fleet.settings.data_dir, runs=RUNS).working():
            assert await asyncio.wait_for(running, 60)
    finally:
        await end(running)
    report = await fleet.report("s")
    assert (report["phase"], report["total"]["present"]) == ("done", len(KEYS)), report


def consumers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if type(thread).__module__ == "dramatiq.worker"]


@pytest.mark.parametrize("after_s", [None, 0.0, 0.02])
async def test_however_a_process_ends_no_thread_of_it_takes_shards_afterwards(
    bytes_fleet, monkeypatch, after_s
):
    """Cancelled while it works, and again while it clears up; or as soon as it has begun to start."""
    working = asyncio.Event()

    async def signs(_self, _broker_id):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)

    async def work():
        async with ShardLane(bytes_fleet.services, bytes_fleet.settings.data_dir, runs=RUNS).working():
            working.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(ShardLane, "_give_signs", signs)
    before = consumers()
    task = asyncio.create_task(work())
    if after_s is None:
        await working.wait()
        assert len(consumers()) > len(before)
    else:
        await asyncio.sleep(after_s)
    await end(task)
    assert consumers() == before


async def test_a_process_that_is_idle_is_counted_on_before_it_has_begun(bytes_fleet, monkeypatch):
    monkeypatch.setattr("scheduler.scan.service.LOOK_S", 0.2)
    async with serving(bytes_fleet, threads=7):
        redis, namespace = bytes_fleet.services.redis, bytes_fleet.settings.broker.namespace
        assert await capacity(redis, namespace) == 7
        await redis.delete(f"{namespace}:scan-workers")

        async def again():
            return await capacity(redis, namespace) == 7

        await eventually(again, "it says so again and again")
    assert THREADS != 7


async def test_a_message_of_a_scan_that_is_over_calls_nobody_again_and_again(bytes_fleet, monkeypatch):
    monkeypatch.setattr("scheduler.scan.service.LOOK_S", 0.5)
    fleet = bytes_fleet
    state = await requested(fleet)
    await fleet.scans.order("s", "cancel")
    await fleet.services.redis.hdel(f"{fleet.settings.broker.namespace}:scans", "s")
    looks = 0
    real = type(fleet.scans.states).live

    async def live(self):
        nonlocal looks
        looks += 1
        return await real(self)

    async with serving(fleet):
        await queue_shard(fleet.services.queue, state, 0)
        monkeypatch.setattr(type(fleet.scans.states), "live", live)
        await asyncio.sleep(2.0)
        assert looks <= 2 * 2 * (2.0 / 0.5 + 1), "two records, and at most two looks each half second"
        assert (await fleet.services.queue.depth(SCAN_LANE)).waiting == 1, "nobody has taken it"


class Refusing:
    """A queue of which nobody may wait, or that is away."""

    async def arrival(self, lane, seconds):
        raise BrokerUnavailable("queue: away")


async def test_a_redis_that_is_away_is_not_asked_in_a_hurry_and_a_stop_ends_every_wait(bytes_fleet):
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not await shard_waits(Refusing(), asyncio.Event(), 0.4)
    assert loop.time() - began >= 0.39
    for queue in (Refusing(), bytes_fleet.services.queue):
        stop = asyncio.Event()
        waiting = asyncio.create_task(shard_waits(queue, stop, 30.0))
        await asyncio.sleep(0.1)
        stop.set()
        assert not await asyncio.wait_for(waiting, 5)
        await end(waiting)
