"""What these contracts are held over: a fake Redis in memory and a real Valkey, emptied for each test."""

from __future__ import annotations

import pytest
from fakeredis import FakeAsyncRedis

from workers.broker.clients import connect
from workers.ledger.ledger import Ledger
from workers.settings import BrokerSettings


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
async def redis(request):
    if request.param == "fake":
        client = FakeAsyncRedis(decode_responses=True)
    else:
        client = connect(BrokerSettings(url=request.getfixturevalue("valkey_url")))
        await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def ledger(redis):
    return Ledger(redis)
