"""An idle worker waits at a real Valkey, and is woken by whoever puts a message there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from urllib.parse import urlsplit

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware

from workers.errors import BrokerUnavailable
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup, decode_batch
from workers.queue import waiting
from workers.queue.broker import make_broker
from workers.queue.queue import JobQueue
from workers.queue.waiting import make_patient
from workers.settings import BrokerSettings

pytestmark = pytest.mark.real

PLAN = FetchPlan(bucket="b", rule="r", groups=(OriginGroup(primary=Origin(host="o.example")),))


def batch(key="k"):
    return Batch(lane=Lane.HOT, plan=PLAN, items=(FetchItem(key=key, path=key),))


def keys(messages):
    return [item.key for one in messages for item in decode_batch(one.kwargs["batch"]).items]


@pytest.fixture
def server(valkey_url):
    with contextlib.closing(redis.Redis.from_url(valkey_url)) as server:
        server.flushall()
        yield server


@pytest.fixture
async def queue(server, valkey_url):
    queue = JobQueue.open(BrokerSettings(url=valkey_url, namespace="q"))
    yield queue
    await queue.close()


@pytest.fixture
def broker(server, valkey_url):
    broker = make_broker(BrokerSettings(url=valkey_url, namespace="q"))
    yield broker
    broker.close()


def calls(server, command):
    return int(server.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def blocked(server):
    return int(server.info("clients")["blocked_clients"])


def until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def taken(consumer, count):
    """The next messages, each within a minute."""
    got = []
    deadline = time.monotonic() + 60
    while len(got) < count:
        assert time.monotonic() < deadline, "nobody woke the consumer"
        if (message := next(consumer)) is not None:
            got.append(message)
    return got


async def by_a_producer(queue, broker):
    await queue.enqueue_many([batch("first"), batch("second")])


async def by_a_delay_that_is_over(queue, broker):
    await queue.enqueue_each([(batch("first"), 0.001), (batch("second"), 0.002)])
    moved = 0
    while moved < 2:
        moved += await queue.promote_due(Lane.HOT)


@pytest.mark.parametrize("put", [by_a_producer, by_a_delay_that_is_over])
async def test_an_idle_consumer_is_woken_and_gets_messages_in_their_order(
    queue, broker, server, monkeypatch, put
):
    monkeypatch.setattr(waiting, "AT_SERVER_S", 14.0)  # it would not look again by itself in time
    consumer = broker.consume("hot", prefetch=2, timeout=50)
    getting = asyncio.create_task(asyncio.to_thread(taken, consumer, 2))
    await asyncio.to_thread(until, lambda: blocked(server) == 1, "the consumer does not wait at the server")
    began = time.monotonic()
    await put(queue, broker)
    assert keys(await getting) == ["first", "second"]
    assert time.monotonic() - began < 13.0
    assert server.llen("q:hot") == 0


async def test_a_message_that_another_worker_gives_back_wakes_one_that_is_idle(
    queue, broker, server, valkey_url, monkeypatch
):
    monkeypatch.setattr(waiting, "AT_SERVER_S", 14.0)
    other = RedisBroker(url=valkey_url, namespace="q")
    await queue.enqueue_many([batch("first")])
    await asyncio.to_thread(other.do_fetch, "hot", 1)
    consumer = broker.consume("hot", prefetch=1, timeout=50)
    getting = asyncio.create_task(asyncio.to_thread(taken, consumer, 1))
    await asyncio.to_thread(until, lambda: blocked(server) == 1, "the consumer does not wait at the server")
    held = await queue.held_by(other.broker_id, Lane.HOT)
    await queue.give_back(other.broker_id, Lane.HOT, sorted(held))
    assert keys(await getting) == ["first"]
    other.close()


@pytest.mark.parametrize("tell", ["ack", "nack"])
async def test_what_got_no_answer_is_not_said_again_and_leaves_the_message_to_be_found(
    queue, broker, valkey_url, monkeypatch, tell
):
    """Redis may have come back without what was recorded before: said again, the message would be gone."""

    def away(*_):
        raise redis.ConnectionError("Connection closed by server.")

    await queue.enqueue_many([batch("first")])
    consumer = broker.consume("hot", prefetch=1, timeout=50)
    (message,) = await asyncio.to_thread(taken, consumer, 1)
    monkeypatch.setattr(broker, f"do_{tell}", away)
    getattr(consumer, tell)(message)
    assert consumer.outstanding_message_count == 0
    assert await queue.held_by(broker.broker_id, Lane.HOT) == {message.options["redis_message_id"]}
    without = make_broker(BrokerSettings(url=valkey_url, namespace="q"), on_loop=False)
    monkeypatch.setattr(without, f"do_{tell}", away)
    with contextlib.closing(without), pytest.raises(ConnectionClosed):
        getattr(without.consume("hot", prefetch=1, timeout=50), tell)(message)


async def test_two_idle_consumers_share_what_comes(queue, broker, server, monkeypatch):
    consumers = [broker.consume("hot", prefetch=1, timeout=50) for _ in range(2)]
    getting = [asyncio.create_task(asyncio.to_thread(taken, consumer, 1)) for consumer in consumers]
    await asyncio.to_thread(until, lambda: blocked(server) == 2, "they do not wait at the server")
    await queue.enqueue_many([batch("first"), batch("second")])
    assert sorted(keys([message for one in getting for message in await one])) == ["first", "second"]


async def test_a_consumer_that_has_all_that_it_may_take_leaves_the_rest_to_others(queue, broker, server):
    await queue.enqueue_many([batch("first"), batch("second")])
    consumer = broker.consume("hot", prefetch=1, timeout=5)
    (first,) = await asyncio.to_thread(taken, consumer, 1)
    before = calls(server, "blmove")
    assert [await asyncio.to_thread(next, consumer) for _ in range(3)] == [None] * 3
    assert (calls(server, "blmove"), server.llen("q:hot")) == (before, 1)
    await asyncio.to_thread(consumer.ack, first)
    assert keys(await asyncio.to_thread(taken, consumer, 1)) == ["second"]


async def test_a_consumer_takes_what_its_process_may_have_now(queue, broker, server):
    may, had = [2, 2, 3], []
    broker.may_hold = lambda outstanding: had.append(outstanding) or may[min(len(had), len(may)) - 1]
    await queue.enqueue_many([batch(str(number)) for number in range(5)])
    consumer = broker.consume("hot", prefetch=5, timeout=5)
    assert keys(await asyncio.to_thread(taken, consumer, 2)) == ["0", "1"]
    assert (await asyncio.to_thread(next, consumer), server.llen("q:hot")) == (None, 3)
    assert keys(await asyncio.to_thread(taken, consumer, 1)) == ["2"]
    assert (had, server.llen("q:hot")) == ([0, 2, 2], 2)


async def test_a_consumer_whose_user_may_not_wait_looks_again_and_again(queue, server, valkey_url):
    server.execute_command("ACL", "SETUSER", "looks", "on", ">pw", "~*", "&*", "+@all", "-blmove")
    parts = urlsplit(valkey_url)
    url = parts._replace(netloc=f"looks:pw@{parts.hostname}:{parts.port}").geturl()
    broker = make_broker(BrokerSettings(url=url, namespace="q"))
    try:
        consumer = broker.consume("hot", prefetch=1, timeout=5)
        assert await asyncio.to_thread(next, consumer) is None
        await queue.enqueue_many([batch("first")])
        assert keys(await asyncio.to_thread(taken, consumer, 1)) == ["first"]
    finally:
        broker.close()
        server.execute_command("ACL", "DELUSER", "looks")


class Patient(Middleware):
    def before_worker_boot(self, broker, worker):
        self.queue = make_patient(worker)

    def before_worker_shutdown(self, broker, worker):
        self.queue.hurry()


async def test_an_idle_worker_of_many_threads_asks_once_a_wait_and_ends_soon(server, valkey_url):
    """It asked forty times a second, for a lane and for dramatiq's delayed messages, which nobody sends."""
    broker = make_broker(BrokerSettings(url=valkey_url, namespace="q"), middleware=[Patient()])

    async def fetch_hot(batch):
        pass

    dramatiq.actor(actor_name="fetch_hot", queue_name="hot", broker=broker)(fetch_hot)
    worker = dramatiq.Worker(broker, queues={"hot"}, worker_threads=32, worker_timeout=50)
    await asyncio.to_thread(worker.start)
    try:
        assert sorted(worker.consumers) == ["hot"]
        await asyncio.to_thread(until, lambda: blocked(server) == 1, "the worker does not wait at the server")
        asked, waited = calls(server, "evalsha"), calls(server, "blmove")
        await asyncio.to_thread(until, lambda: calls(server, "blmove") >= waited + 3, "it waits no more")
        assert calls(server, "evalsha") - asked <= calls(server, "blmove") - waited + 1
    finally:
        await asyncio.to_thread(worker.stop, 60_000)
        broker.close()
    assert not any(thread.is_alive() for thread in worker.workers)


async def test_whoever_waits_for_an_arrival_is_called_by_the_message_and_leaves_it(queue, server):
    assert not await queue.arrival("hot", 0.1)
    waiting = [asyncio.create_task(queue.arrival("hot", 20)) for _ in range(2)]
    await asyncio.to_thread(until, lambda: blocked(server) == 2, "they wait")
    began = time.monotonic()
    await queue.enqueue_many([batch()])
    assert await asyncio.gather(*waiting) == [True, True]
    assert time.monotonic() - began < 5
    assert server.llen("q:hot") == 1
    assert await queue.arrival("hot", 20), "who comes later is told at once"


async def test_who_may_not_wait_is_told_so(server, valkey_url):
    server.execute_command("ACL", "SETUSER", "looks", "on", ">pw", "~*", "&*", "+@all", "-blmove")
    parts = urlsplit(valkey_url)
    queue = JobQueue.open(
        BrokerSettings(url=f"redis://looks:pw@{parts.hostname}:{parts.port}/0", namespace="q")
    )
    try:
        with pytest.raises(BrokerUnavailable, match="blmove"):
            await queue.arrival("hot", 1)
    finally:
        await queue.close()
        server.execute_command("ACL", "DELUSER", "looks")
