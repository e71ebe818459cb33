"""Processes with a control each over one Redis: fakeredis and a real Valkey."""

from __future__ import annotations

import contextlib
import uuid

import fakeredis
import pytest
import redis.asyncio

from workers.origin.control.control import OriginControl
from workers.settings import BudgetSettings, OriginSettings


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
