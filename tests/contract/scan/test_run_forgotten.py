"""A run that is forgotten: whoever still works for it, however late, writes nothing of it any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.scan.record.shard import KeyRange, Shard
from scheduler.scan.record.state import Checkpoint, ScanOptions, ScanState, ScanStates
from scheduler.scan.shards.records import RunForgotten, ShardStates
from scheduler.scan.verify.drawn import DrawnKeys
from scheduler.scan.verify.listed import Lot
from workers.broker.clients import connect
from workers.ledger.names import Named, ScanNames
from workers.settings import BrokerSettings

RUN = "s-0.v0"
pytestmark = pytest.mark.real
OPTIONS = ScanOptions(bucket="b", inventory={"bucket": "other"}, shards=2)
SCAN = ScanState(name="s", run=RUN, options=OPTIONS)


def shard_of(number, begin="", end=None):
    range_ = KeyRange(begin=begin, end=end)
    return replace(SCAN, name=f"{RUN}/{number}", shard=Shard(number=number, range=range_))


FIRST, SECOND = shard_of(0, end="m"), shard_of(1, begin="m")


@pytest.fixture
async def redis(valkey_url):
    client = connect(BrokerSettings(url=valkey_url))
    await client.flushall()
    yield client
    await client.aclose()


async def cut_and_held(redis):
    """The records of a run that is cut, and both its leases; what works for it holds the token `t`."""
    shards = ShardStates(redis, namespace="ns", run=RUN)
    scans = ScanStates(redis, namespace="ns")
    await scans.put(SCAN)
    assert await scans.acquire("s", "t")
    assert await shards.cut(SCAN, "t", [FIRST, SECOND])
    for one in (FIRST, SECOND):
        assert await shards.acquire(one.name, "t")
    return shards


async def left(redis):
    return sorted([key async for key in redis.scan_iter(match=f"*{RUN}*") if "scan-lease" not in key])


async def checkpoint(redis, shards):
    names = [Named("missing", "a")]
    state = replace(FIRST, checkpoint=Checkpoint(key="a", batch=1))
    return await shards.checkpoint_with(state, b"[]", "t", names)


async def record(redis, shards):
    return await shards.put_held(FIRST, "t")


async def split(redis, shards):
    return await shards.split(shard_of(0, end="c"), shard_of(2, "c", "m"), "t")


async def number(redis, shards):
    return await shards.next_number() == 2


async def batches(redis, shards):
    return await shards.reserve(3) == 0


async def pace(redis, shards):
    return await shards.pace(5) > 0


async def told(redis, shards):
    await shards.want_split(0)
    await shards.not_split(1)
    await shards.say_unshared()
    await shards.allow(running=True)
    return (await shards.told(0)).go_on


async def sent(redis, shards):
    await shards.mark_sent(FIRST.name, 4)
    return await shards.sent(FIRST.name) == 5


async def lots(redis, shards):
    drawn = DrawnKeys(redis, namespace="ns", run=RUN)
    await drawn.add([Lot(-0.5, "a"), Lot(-0.25, "b")], 1)
    return await drawn.settle() == 1 and await drawn.keys(KeyRange(), None, 9) == ["b"]


WRITERS = [checkpoint, record, split, number, batches, pace, told, sent, lots]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
async def test_what_comes_late_writes_nothing(redis, write):
    shards = await cut_and_held(redis)
    assert await write(redis, shards), "it does while the run is kept"
    await shards.forget()
    await ScanNames(redis, namespace="ns").forget(RUN)
    await DrawnKeys(redis, namespace="ns", run=RUN).forget()
    assert await left(redis) == [], "nothing is left, windows neither"
    try:
        done = await write(redis, shards)
    except RunForgotten:
        done = False
    assert not done
    assert await left(redis) == []


async def test_a_block_of_names_that_was_dropped_meanwhile_is_not_told_of_again(redis):
    names = ScanNames(redis, namespace="ns")
    shards = await cut_and_held(redis)
    await checkpoint(redis, shards)
    await names.close(RUN, least=1)
    assert len(await names.block(RUN, 1)) == 1
    await names.forget(RUN)
    await names.put_away(RUN, 1)
    await shards.forget()
    assert await left(redis) == []
