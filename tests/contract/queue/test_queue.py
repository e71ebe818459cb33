"""The queue as producers and dramatiq's own consumer see it, over the real Redis."""

from __future__ import annotations

import asyncio
import os
import time
from queue import PriorityQueue
from types import SimpleNamespace

import pytest
from dramatiq.brokers.redis import RedisBroker

from scheduler.machine.worker_health import WorkerGroup
from workers.errors import BrokerUnavailable
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup, decode_batch
from workers.queue.broker import make_broker
from workers.queue.queue import JobQueue
from workers.queue.strays import Strays
from workers.settings import BrokerSettings

pytestmark = pytest.mark.real


def batch(lane=Lane.HOT, keys=("a",)):
    plan = FetchPlan(bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host="o.example")),))
    return Batch(plan=plan, lane=lane, items=tuple(FetchItem(key=key, path=key) for key in keys))


@pytest.fixture
async def settings(valkey_url):
    settings = BrokerSettings(url=valkey_url, namespace="q")
    queue = JobQueue.open(settings)
    await queue._redis.flushall()
    await queue.close()
    return settings


@pytest.fixture
async def queue(settings):
    queue = JobQueue.open(settings)
    yield queue
    await queue.close()


def taken(broker, lane, count):
    """What dramatiq's consumer gets, as batches with their messages."""
    consumer = broker.consume(lane.value, prefetch=count, timeout=100)
    messages = []
    deadline = time.monotonic() + 5
    while len(messages) < count and time.monotonic() < deadline:
        message = next(consumer)
        if message is not None:
            messages.append(message)
    return consumer, messages


async def test_batches_reach_dramatiqs_consumer_in_order_on_their_lane(settings, queue):
    await queue.enqueue_many([batch(keys=("a", "b")), batch(keys=("é //",)), batch(Lane.COLD)])
    broker = make_broker(settings)
    consumer, messages = await asyncio.to_thread(taken, broker, Lane.HOT, 2)
    got = [decode_batch(message.kwargs["batch"]) for message in messages]
    assert [[item.key for item in one.items] for one in got] == [["a", "b"], ["é //"]]
    assert [one.id for one in got] == [message.message_id for message in messages]
    assert messages[0].actor_name == "fetch_hot"
    for message in messages:
        consumer.ack(message)
    depth = await queue.depth(Lane.HOT)
    assert (depth.waiting, depth.running) == (0, 0)
    assert (await queue.depth(Lane.COLD)).waiting == 1
    broker.close()


async def test_depth_tells_waiting_running_delayed_and_age(settings, queue):
    await queue.enqueue_many([batch(), batch(), batch()])
    await queue.enqueue_many([batch()], delay_s=60)
    broker = make_broker(settings)
    await asyncio.to_thread(taken, broker, Lane.HOT, 1)
    depth = await queue.depth(Lane.HOT)
    assert (depth.waiting, depth.running, depth.delayed) == (2, 1, 1)
    assert 0 <= depth.oldest_age_s < 10
    broker.close()


async def test_p48_delayed_jobs_wait_in_redis_and_are_promoted_when_due(queue):
    await queue.enqueue_many([batch(Lane.COLD, keys=(f"k{n}",)) for n in range(250)], delay_s=0.05)
    assert (await queue.depth(Lane.COLD)).waiting == 0
    moved = 0
    deadline = time.monotonic() + 5
    while moved < 250:
        assert time.monotonic() < deadline
        step = await queue.promote_due(Lane.COLD)
        assert step <= 100
        moved += step
        await asyncio.sleep(0.01)
    depth = await queue.depth(Lane.COLD)
    assert (depth.waiting, depth.delayed) == (250, 0)


@pytest.mark.parametrize("wrong_s", [600.0, -600.0])
@pytest.mark.parametrize("whose", ["who puts it off", "who looks"])
async def test_a_wrong_clock_puts_no_delayed_job_off_and_brings_none_early(
    queue, monkeypatch, whose, wrong_s
):
    right = time.time

    def wrong() -> float:
        return right() + wrong_s

    putting, looking = (wrong, right) if whose == "who puts it off" else (right, wrong)
    monkeypatch.setattr(time, "time", putting)
    await queue.enqueue_each([(batch(keys=("soon",)), 0.05), (batch(keys=("later",)), 60.0)])
    monkeypatch.setattr(time, "time", looking)
    await asyncio.sleep(0.1)
    assert [await queue.promote_due(Lane.HOT) for _ in range(2)] == [1, 0]
    monkeypatch.setattr(time, "time", right)
    depth = await queue.depth(Lane.HOT)
    assert (depth.waiting, depth.delayed) == (1, 1)


async def test_messages_of_a_worker_that_never_speaks_again_return(settings, queue):
    """The heartbeat that the runner writes keeps them; without one they are somebody else's."""
    await queue.enqueue_many([batch(), batch()])
    silent = RedisBroker(url=settings.url, namespace="q", heartbeat_timeout=200, maintenance_chance=0)
    alive = RedisBroker(url=settings.url, namespace="q", heartbeat_timeout=200, maintenance_chance=0)
    await asyncio.to_thread(taken, silent, Lane.HOT, 1)
    await asyncio.to_thread(taken, alive, Lane.HOT, 1)
    deadline = time.monotonic() + 5
    heir = RedisBroker(url=settings.url, namespace="q", heartbeat_timeout=200, maintenance_chance=1_000_000)
    got = []
    while not got:
        assert time.monotonic() < deadline
        await queue.heartbeat(alive.broker_id, member="alive:1")
        got = heir.do_fetch("hot", 10)
        await asyncio.sleep(0.02)
    assert len(got) == 1
    for broker in (silent, alive, heir):
        broker.close()


class OneWorker:
    """The memory of a dramatiq worker, as far as `Strays` looks into it."""

    def __init__(self, broker):
        self.work_queue = PriorityQueue()
        self.consumer = broker.consume("hot", prefetch=10, timeout=50)
        self.consumers = {"hot": SimpleNamespace(consumer=self.consumer)}


async def test_what_redis_handed_out_and_nobody_got_returns_to_its_lane(settings, queue):
    """The server was killed, or a connection broke, between the script and its answer."""
    await queue.enqueue_many([batch(keys=(key,)) for key in ("lost", "cached", "waiting", "running", "done")])
    broker = make_broker(settings)
    worker = OneWorker(broker)
    strays = Strays(Lane.HOT)
    strays.watch(worker)
    await asyncio.to_thread(broker.do_fetch, "hot", 1)  # its answer goes nowhere
    worker.consumer.message_cache = await asyncio.to_thread(broker.do_fetch, "hot", 4)
    waiting, running, done = (next(worker.consumer) for _ in range(3))
    worker.consumer.message_cache.append(None)
    worker.work_queue.put(SimpleNamespace(message=waiting))
    strays.begins(running)
    strays.begins(done)
    strays.ends(done)
    assert await strays.look(queue, broker.broker_id) == 0, "it may be on its way"
    await asyncio.to_thread(broker.do_ack, "hot", done.options["redis_message_id"])
    assert await strays.look(queue, broker.broker_id) == 1
    assert await strays.look(queue, broker.broker_id) == 0
    assert (await queue.depth(Lane.HOT)).waiting == 1
    _, (again,) = await asyncio.to_thread(taken, make_broker(settings), Lane.HOT, 1)
    assert [item.key for item in decode_batch(again.kwargs["batch"]).items] == ["lost"]
    assert len(await queue.held_by(broker.broker_id, Lane.HOT)) == 3


async def test_a_group_of_workers_is_well_while_all_its_processes_give_signs(settings, queue):
    group = WorkerGroup(name="host:1:hot", lane=Lane.HOT, processes=2, broker=settings)
    assert await group.problem(queue) == "0 of 2 worker processes give signs of life"
    await queue.heartbeat("w1", member=f"{group.name}:{os.getpid()}")
    await queue.heartbeat("w2", member=f"host:1:cold:{os.getppid()}")
    await queue.heartbeat("w3", member=f"{group.name}:{2**22 + 1}")
    assert await group.problem(queue) == "1 of 2 worker processes give signs of life", "one is gone"
    assert not await group.ready()
    await queue.heartbeat("w4", member=f"{group.name}:{os.getppid()}")
    assert await group.problem(queue) is None
    assert await group.ready()
    away = WorkerGroup(
        name="g", lane=Lane.HOT, processes=1, broker=BrokerSettings(url="redis://127.0.0.1:1/0")
    )
    assert await away.ready(), "a Redis that is away says nothing of workers"


async def test_a_broker_that_is_away_is_said_so():
    queue = JobQueue.open(BrokerSettings(url="redis://127.0.0.1:1/0"))
    with pytest.raises(BrokerUnavailable, match="queue:"):
        await queue.enqueue_many([batch()])
    with pytest.raises(BrokerUnavailable):
        await queue.depth(Lane.HOT)
    await queue.close()
