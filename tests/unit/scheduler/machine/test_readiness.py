"""Alive and ready: the checks and their deadline."""

from __future__ import annotations

import asyncio

import fakeredis
import pytest

from scheduler.front.admin import health
from scheduler.front.admin.health import Readiness, health_routes, origins_check, redis_check, store_check
from workers.errors import OriginUnreachable, StoreDenied
from workers.origin.control.control import OriginControl
from workers.settings import OriginSettings


async def well() -> None:
    return None


async def broken() -> None:
    raise StoreDenied("403", status=403)


async def hanging() -> None:
    await asyncio.sleep(60)


async def test_nothing_is_wrong_when_every_check_is_well():
    assert await Readiness({"redis": well, "store": well}).problems() == {}


async def test_each_problem_stands_under_the_name_of_its_check(monkeypatch):
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.01)
    found = await Readiness({"redis": well, "store": broken, "origins": hanging}).problems()
    assert set(found) == {"store", "origins"}
    assert "StoreDenied" in found["store"]
    assert "no answer" in found["origins"]


async def test_an_answer_is_believed_for_two_seconds():
    asked = []
    now = [100.0]

    async def check() -> None:
        asked.append(now[0])

    ready = Readiness({"x": check}, clock=lambda: now[0])
    for _ in range(50):
        await ready.problems()
    now[0] += 2.5
    await asyncio.gather(*(ready.problems() for _ in range(10)))
    assert asked == [100.0, 102.5]


async def test_redis_is_pinged():
    server = fakeredis.FakeServer()
    redis = fakeredis.FakeAsyncRedis(server=server)
    ready = Readiness({"redis": redis_check(redis)}, clock=lambda: 0.0)
    assert await ready.problems() == {}
    server.connected = False
    ready = Readiness({"redis": redis_check(redis)}, clock=lambda: 0.0)
    assert "ConnectionError" in (await ready.problems())["redis"]


async def test_the_store_is_asked_for_a_key_that_nobody_has():
    asked = []

    class Store:
        async def head(self, bucket: str, key: str) -> None:
            asked.append((bucket, key))

    assert await store_check(Store(), ["site", "other"])() is None
    assert await store_check(Store(), [])() is None
    ((bucket, key),) = asked
    assert bucket == "site"
    assert key.startswith(".ferryman/")


@pytest.mark.parametrize(
    ("out", "ready"), [((), True), (("a",), True), (("a", "b"), False)], ids=["none", "one", "all"]
)
async def test_one_origin_that_is_not_out_is_enough(out, ready):
    control = OriginControl(OriginSettings())
    for host in out:
        for _ in range(5):
            control.failed(host, OriginUnreachable("x", origin=host))
    assert (await origins_check(control, lambda: ["a", "b"])() is None) is ready


async def test_without_any_rule_the_origins_are_no_problem():
    assert await origins_check(OriginControl(OriginSettings()), list)() is None


def test_health_paths_are_two():
    assert [route.path for route in health_routes(Readiness({}))] == ["/healthz", "/readyz"]
