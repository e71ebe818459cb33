"""What an answer leaves behind: a job, an object, or nothing (SEMANTICS.md F28, F43, A9 to A18)."""

from __future__ import annotations

import pytest

from support.origin.scripted import scripted

BODY = bytes(range(256)) * 1000
#: Nothing listens there.
DEAD = "127.0.0.1:1"


@pytest.mark.parametrize("range_header", [None, "bytes=0-3"])
@pytest.mark.parametrize("step", ["status,code=202", "status,code=404", "redirect,code=303,to=/ok/x"])
async def test_async_status_goes_out_and_one_pull_is_queued(chaos, mirror, start, step, range_header):
    """F28, also for a status that would be absent, or a redirect that would be followed."""
    code = int(step.partition("code=")[2][:3])
    chaos.script("/k", step)
    front = await start(mirror(origin={"async_status": code}))
    reply = await front.get("/k", {"Range": range_header} if range_header else None)
    assert (reply.status, reply.body) == (code, b"")
    assert reply.headers.get("location") == ("/ok/x" if code == 303 else None)
    await front.idle()
    assert chaos.count() == 1
    assert await front.queued() == 1
    assert await front.stored("k") is None


async def test_a_range_of_an_unreachable_origin_leaves_a_job(mirror, start):
    """A11: as without a range."""
    front = await start(mirror(origin={"hosts": [{"host": DEAD}]}))
    assert (await front.get("/k", {"Range": "bytes=0-3"})).status == 424
    await front.idle()
    assert await front.queued() == 1


@pytest.mark.parametrize("step", ["status,code=416", "status,code=202", "hangup"])
async def test_a_rule_that_does_not_save_leaves_no_job(chaos, mirror, start, step):
    """F42, with A11, A18 and F28."""
    chaos.script("/k", step)
    front = await start(mirror(store={"save": False}, origin={"async_status": 202}))
    await front.get("/k", {"Range": "bytes=0-3"})
    await front.get("/k")
    await front.idle()
    assert await front.queued() == 0


@pytest.mark.parametrize("body", [b"short", BODY])
async def test_without_check_md5_the_client_gets_all_of_a_wrong_body(chaos, mirror, start, body):
    """F43: the answer does not wait for the comparison, but what is wrong is never stored."""
    chaos.put("/k", body)
    chaos.script("/k", "wrong_digest")
    front = await start(mirror())
    reply = await front.raw_get("/k")
    assert (reply.status, reply.body, reply.reset) == (200, body, False)
    await front.idle()
    assert await front.stored("k") is None
    assert await front.queued() == 1


async def test_with_switch_all_a_redirect_that_is_not_followed_asks_the_standby(chaos, mirror, start):
    """F25, A8: the last candidate's own is passed on."""
    chaos.script("/k", "redirect,to=/one")
    chaos.script("/k2", "redirect,to=/one")
    chaos.put("/k", BODY)
    standby = {"host": f"localhost:{chaos.port}"}
    hosts = [{"host": chaos.host, "standbys": [standby["host"]]}]
    front = await start(
        mirror(origin={"hosts": hosts, "switch_all": True}, request={"follow_redirects": False})
    )
    chaos.script("/k", "redirect,to=/one", "ok")
    reply = await front.get("/k")
    assert (reply.status, reply.body) == (200, BODY)
    reply = await front.get("/k2")
    assert (reply.status, reply.headers["location"]) == (302, "/one")
    assert chaos.count("/k2") == 2


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-1",
        "Thursday, 01-Dec-94 16:00:00 GMT",
        "Thu Dec  1 16:00:00 1994",
        "Thu, 31 Feb 2032 00:00:00 GMT",
    ],
)
async def test_an_expires_that_stores_refuse_is_stored_and_replayed_as_sent(chaos, mirror, start, value):
    """S4: also a date in one of the older forms, which SeaweedFS answers with 400."""
    chaos.put("/k", BODY, [("Expires", value)])
    front = await start(mirror())
    assert (await front.get("/k")).headers["expires"] == value
    await front.idle()
    assert await front.stored("k") == BODY
    assert (await front.get("/k")).headers["expires"] == value


@pytest.mark.parametrize(
    "value", ["attachment; filename=\u4e2d.txt".encode(), b"attachment; filename=caf\xe9.txt"]
)
async def test_header_bytes_outside_ascii_are_the_origins_on_miss_and_hit(mirror, start, value):
    """A1, S3, S16: whatever their encoding."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Disposition: %b\r\nx-oss-meta-a: %b\r\n\r\nok"
    async with scripted([head % (value, value)]) as origin:
        front = await start(mirror(origin={"hosts": [{"host": origin.host}]}))
        for _ in range(2):
            raw = await front.raw_get("/k")
            assert raw.body == b"ok"
            assert b"content-disposition: " + value + b"\r\n" in raw.head
            assert b"x-amz-meta-a: " + value + b"\r\n" in raw.head
            await front.idle()
