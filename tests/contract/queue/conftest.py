"""The runner of a worker that is not there."""

from __future__ import annotations

import pytest

from support.batches import Setup


@pytest.fixture
async def setup(valkey_url):
    setup = Setup(valkey_url)
    await setup.ledger.redis.flushall()
    yield setup
    await setup.ledger.close()
    await setup.queue.close()
