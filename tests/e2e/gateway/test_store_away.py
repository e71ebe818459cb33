"""A store that does not answer: who may know says 503, whoever has a miss in hand serves it (A23, 2.5)."""

from __future__ import annotations

import asyncio
import time

import pytest

from workers.errors import StoreUnavailable

pytestmark = pytest.mark.real

BODY = bytes(range(256)) * 100


def away(how: str):
    async def call(*_, **__):
        if how == "hangs":
            await asyncio.sleep(3600)
        raise StoreUnavailable("away")

    return call


@pytest.mark.parametrize("how", ["refused", "hangs"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_look_up_without_an_answer_is_503_with_patience(
    chaos, mirror, start, monkeypatch, how, method
):
    """2.5, 2.6: nobody knows whether it is a miss, so the origin is not asked."""
    front = await start(mirror(), gateway={"listen": "127.0.0.1:0", "lookup_s": 0.2})
    monkeypatch.setattr(front.services.store, "get", away(how))
    monkeypatch.setattr(front.services.store, "head", away(how))
    began = time.monotonic()
    reply = await front.request(method, "/k")
    assert time.monotonic() - began < 2
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    if method == "GET":
        assert "<Code>ServiceUnavailable</Code>" in reply.text
    assert chaos.count() == 0


@pytest.mark.parametrize("how", ["refused", "hangs"])
async def test_a_miss_that_another_gateway_saw_is_served_without_the_store(
    chaos, mirror, start, monkeypatch, how
):
    """A23: the client's answer is not touched, and the key goes to the queue."""
    monkeypatch.setattr("scheduler.front.pull.pump.STORE_PATIENCE_S", 0.2)
    chaos.put("/k", BODY)
    front = await start(mirror(), bucket_settings={"hits": "off"})
    monkeypatch.setattr(front.services.store, "head", away(how))
    upload = front.services.store.upload
    monkeypatch.setattr(front.services.store, "upload", lambda *_, **__: Broken())
    began = time.monotonic()
    assert (await front.get("/k")).body == BODY
    assert time.monotonic() - began < 3
    monkeypatch.setattr(front.services.store, "upload", upload)
    await front.idle()
    assert await front.queued() == 1


class Broken:
    """An upload that cannot begin."""

    async def __aenter__(self):
        raise StoreUnavailable("away")

    async def __aexit__(self, *_):
        return None


async def test_an_object_that_cannot_be_read_back_is_503_not_404(chaos, mirror, start, monkeypatch):
    """A24: another one stored it, and then the store went away."""
    chaos.put("/k", BODY)
    front = await start(mirror())
    store = front.services.store
    get = store.get
    asked = 0

    async def once(*args, **more):
        nonlocal asked
        asked += 1
        if asked > 1:
            raise StoreUnavailable("away")
        return await get(*args, **more)

    async def stored(*_, **__):
        return True

    monkeypatch.setattr(store, "get", once)
    monkeypatch.setattr("scheduler.front.pull.pump.FRESH_S", -1.0)
    monkeypatch.setattr(store, "head", stored)
    reply = await front.get("/k")
    assert (reply.status, reply.headers.get("retry-after")) == (503, "2")
