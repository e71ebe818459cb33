"""HEAD of a missing key, SEMANTICS.md 5.4, row by row."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.misses.event import MissEvent
from support.gateway import until
from workers.ledger.failures import Failure
from workers.plan import Lane

pytestmark = pytest.mark.real

BODY = b"x" * 50_000


@pytest.mark.parametrize("kind", ["mirror", "proxy"])
async def test_a35_head_of_a_missing_key_triggers_nothing(chaos, mirror, start, kind):
    """A35."""
    chaos.put("/k", BODY)
    front = await start(mirror(kind))
    reply = await front.head("/k")
    assert (reply.status, reply.body) == (404, b"")
    await front.idle()
    assert await front.queued() == 0
    assert chaos.count() == 0


async def test_a21_a_head_is_judged_by_the_origins_validators(chaos, mirror, start):
    """A21, A36: whether the origin is asked or a pull is running."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    chaos.put("/slow", BODY, [("ETag", '"e"')])
    chaos.script("/slow", "slow_body,step=1000,interval=0.1")
    front = await start(mirror(answer={"allow_head": True}))
    running = asyncio.create_task(front.get("/slow"))

    async def opened():
        fill = front.gateway.parts.herd.running(front.bucket, "slow")
        return fill is not None and fill.opened is not None

    await until(opened)
    for path in ("/k", "/slow"):
        for tag, status in (('"e"', 200), ('"x"', 412)):
            reply = await front.head(path, {"If-Match": tag})
            assert (reply.status, reply.body) == (status, b""), (path, tag)
    assert chaos.count("/slow") == 1
    running.cancel()


@pytest.mark.parametrize("step", ["ok", "no_head,code=405", "no_head,code=501"])
async def test_a36_allowed_head_is_asked_from_the_origin(chaos, mirror, start, step):
    """A36."""
    chaos.put("/k", BODY, [("Content-Type", "image/png"), ("ETag", '"e"')])
    chaos.script("/k", step)
    front = await start(mirror(answer={"allow_head": True}))
    reply = await front.head("/k")
    assert reply.status == 200
    assert reply.headers["content-length"] == str(len(BODY))
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["etag"] == '"e"'
    assert reply.headers["x-ferryman-stored"] == "false"
    assert reply.headers["x-oss-tag"].startswith("MIRROR http")
    await front.idle()
    assert await front.queued() == 0
    assert await front.stored("k") is None


@pytest.mark.parametrize(
    ("step", "status"), [("status,code=404", 404), ("status,code=500", 424), ("hangup", 424)]
)
async def test_a37_an_allowed_head_that_fails(chaos, mirror, start, step, status):
    """A37."""
    chaos.script("/k", step)
    front = await start(mirror(answer={"allow_head": True}))
    reply = await front.head("/k")
    assert (reply.status, reply.body) == (status, b"")


async def test_a37_what_head_denies_is_not_absent_for_a_get_or_an_event(chaos, mirror, start):
    """A37: HEAD 404, GET 200."""
    chaos.put("/k", BODY)
    chaos.put("/event", BODY)
    for path in ("/k", "/event"):
        chaos.script(path, "status,code=404", "status,code=404")
    front = await start(mirror(answer={"allow_head": True, "absent_ttl_s": 600}))
    for path in ("/k", "/event"):
        assert (await front.head(path)).status == 404
        asked = chaos.count(path)
        assert (await front.head(path)).status == 404
        assert chaos.count(path) == asked, "another HEAD is not asked from the origin again"
        chaos.script(path)
    report = await front.services.dispatcher.dispatch(
        [MissEvent(bucket=front.bucket, key="event")], lane=Lane.HOT
    )
    assert (report.accepted, report.absent) == (1, 0), report
    reply = await front.get("/k")
    assert (reply.status, reply.body) == (200, BODY)
    await front.idle()
    assert await front.stored("k") is not None


async def test_a_failure_is_listed_no_more_once_a_front_has_stored_the_key(chaos, mirror, start):
    chaos.put("/k", BODY)
    front = await start(mirror())
    failures = front.services.ledger.failures
    await failures.add(
        [
            Failure(bucket=front.bucket, key=key, reason="origin_status", message="500", rule="r")
            for key in ("k", "other")
        ]
    )
    assert (await front.get("/k")).status == 200
    await front.idle()

    async def settled():
        return [failure.key async for failure in failures.iterate(front.bucket)] == ["other"]

    await until(settled)
