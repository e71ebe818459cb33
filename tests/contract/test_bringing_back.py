"""Batches of a scan the other way round, and a Redis that comes back without its last second."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisAway

from scheduler.scan.reverse.bringing import Batch, Bringing
from workers.broker.clients import connect
from workers.ledger.back import WRITTEN
from workers.ledger.ledger import Ledger
from workers.settings import BrokerSettings

pytestmark = pytest.mark.real

BATCH = Batch(number=3, group="g/", how=WRITTEN, keys=["g/a", "g/b"])


@pytest.fixture
async def ledger(valkey_url):
    redis = connect(BrokerSettings(url=valkey_url))
    await redis.flushall()
    ledger = Ledger(redis)
    yield ledger
    await ledger.close()


@pytest.fixture
def bringing(ledger):
    return Bringing(SimpleNamespace(ledger=ledger), "site", "run")


async def forget(ledger):
    """What a fail-over to a replica that lagged behind takes."""
    await ledger.outcomes._redis.flushall()


async def bring(ledger):
    """A worker's part."""
    taken = await ledger.back.take("site", owner="w", limit=10)
    await ledger.back.finish("site", taken, owner="w")
    return sorted(one.key for one in taken)


async def test_what_redis_forgot_is_noted_once_more_and_counted_once(ledger, bringing):
    await bringing.note([BATCH])
    await forget(ledger)
    await bringing.settle()
    assert bringing.under_way == [BATCH], "a key without a record passes for none that was brought"
    assert await ledger.outcomes.totals("run") == {}
    await bringing.note_again()
    await bringing.note_again()
    assert await bring(ledger) == BATCH.keys
    await bringing.settle()
    assert bringing.under_way == []
    assert await ledger.outcomes.totals("run") == {"g/": {"stored": 2}}


async def test_what_the_account_knows_is_on_record(ledger, bringing, monkeypatch):
    async def away(*_):
        raise RedisAway("gone")

    monkeypatch.setattr(ledger.back, "note", away)
    with pytest.raises(RedisAway):
        await bringing.note([BATCH])
    assert await ledger.outcomes.totals("run") == {}, "else it would count as brought"


async def test_whoever_goes_on_passes_over_what_has_its_outcome(ledger, bringing):
    await bringing.note([BATCH])
    assert await bring(ledger) == BATCH.keys
    await bringing.settle()
    successor = Bringing(SimpleNamespace(ledger=ledger), "site", "run")
    await successor.note([BATCH])
    assert (successor.under_way, await bring(ledger)) == ([], [])
