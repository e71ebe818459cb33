"""What a process takes of the lane of shards, beside others that look as well."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisAway

from scheduler.scan.shards.records import say_working
from scheduler.scan.shards.share import LEFT_AFTER_S, Share
from workers.errors import BrokerUnavailable
from workers.queue.queue import QueueDepth


def depth(waiting, running=0):
    return QueueDepth(waiting=waiting, running=running, delayed=0, oldest_age_s=0.0)


@pytest.fixture
async def redis():
    async with FakeAsyncRedis(decode_responses=True) as redis:
        yield redis


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def share(clock):
    return Share(None, None, namespace="ns", lane="scan", threads=32, clock=clock)


@pytest.mark.parametrize(
    ("waiting", "running", "every", "may"),
    [
        (8, 0, 64, 4),  # one of two processes: half
        (7, 1, 64, 4),
        (7, 0, 64, 4),  # rounded up, so that none is left
        (1, 0, 320, 1),  # one of ten: there is one for somebody
        (0, 0, 64, 1),
        (200, 0, 64, 32),  # never more than it runs at once
        (8, 0, 40, 7),  # the other runs eight at once, this one 32
        (8, 0, 0, 8),  # nobody has said that he works, not even this one
    ],
)
async def test_a_process_takes_its_part_of_what_waits_and_runs(share, waiting, running, every, may):
    assert share.of(depth(waiting, running), every, 0) == may


async def test_what_others_leave_for_a_while_is_taken_by_whoever_is_there(share, clock):
    assert share.of(depth(4, 4), 64, 4) == 4
    clock.now += LEFT_AFTER_S - 0.01
    assert share.of(depth(4, 4), 64, 4) == 4
    clock.now += 0.02
    assert share.of(depth(4, 4), 64, 4) == 32


async def test_what_is_taken_in_between_was_not_left(share, clock):
    assert share.of(depth(4, 4), 64, 4) == 4
    clock.now += LEFT_AFTER_S / 2
    assert share.of(depth(0, 8), 64, 4) == 4
    clock.now += LEFT_AFTER_S
    assert share.of(depth(4, 4), 64, 4) == 4


@pytest.mark.parametrize("error", [BrokerUnavailable("queue: away"), RedisAway("away")])
async def test_without_the_numbers_it_takes_all_that_it_can_run(redis, error):
    class Away:
        async def depth(self, lane):
            raise error

    share = Share(redis, Away(), namespace="ns", lane="scan", threads=32)
    assert await asyncio.to_thread(share, 0) == 32


async def test_it_asks_for_the_lane_and_for_who_works(redis):
    class Queue:
        async def depth(self, lane):
            assert lane == "scan"
            return depth(9, 3)

    for process in ("a:1", "b:2", "c:3"):
        await say_working(redis, "ns", process, 32)
    share = Share(redis, Queue(), namespace="ns", lane="scan", threads=32)
    assert await asyncio.to_thread(share, 0) == 4


def test_once_the_loop_is_closed_nothing_is_asked_and_no_question_is_left():
    """A question that was never awaited would be an error of pytest's; here and in any test after it."""

    async def made():
        return Share(None, None, namespace="ns", lane="scan", threads=32)

    share = asyncio.run(made())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert share(0) == 32
        gc.collect()
    assert said == []
