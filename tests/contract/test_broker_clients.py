"""Clients of Redis on a real server: what is left of one that was closed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from workers.broker.clients import connect, connect_blocking
from workers.settings import BrokerSettings

pytestmark = pytest.mark.real


def _is_connected(url: str, client_id: int) -> bool:
    with redis.Redis.from_url(url) as other:
        return str(client_id) in {one["id"] for one in other.client_list()}


async def _closed_blocking(settings: BrokerSettings) -> tuple[Any, int]:
    client = connect_blocking(settings)
    known = client.client_id()
    assert _is_connected(settings.url, known)
    client.close()
    return client, known


async def _closed_asynchronous(settings: BrokerSettings) -> tuple[Any, int]:
    client = connect(settings)
    known = await client.client_id()
    assert await asyncio.to_thread(_is_connected, settings.url, known)
    await client.aclose()
    return client, known


@pytest.mark.parametrize("closed", [_closed_blocking, _closed_asynchronous])
async def test_a_client_that_was_closed_keeps_no_connection(valkey_url, closed):
    client, known = await closed(BrokerSettings(url=valkey_url))
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(_is_connected, valkey_url, known):
        assert time.monotonic() < deadline, f"{client} is still connected"
        await asyncio.sleep(0.01)
