"""Ranges of a missing key (SEMANTICS.md A15 to A19; P26 to P28)."""

from __future__ import annotations

import asyncio
import os

import pytest

from support.gateway import until_asked

pytestmark = pytest.mark.real

BODY = os.urandom(100_000)
SIZE = len(BODY)
#: (Range, first, last); None means not satisfiable.
MATRIX = [
    ("bytes=0-0", 0, 0),
    ("bytes=0-", 0, SIZE - 1),
    ("bytes=99999-", SIZE - 1, SIZE - 1),
    ("bytes=5-14", 5, 14),
    ("bytes=-7", SIZE - 7, SIZE - 1),
    ("bytes=99990-200000", 99_990, SIZE - 1),
    ("bytes=-200000", 0, SIZE - 1),
    ("bytes=100000-", None, None),
    ("bytes=200000-200001", None, None),
]


def whole_requests(chaos, key):
    return [entry for entry in chaos.asked(key) if entry.header("range") is None]


@pytest.mark.parametrize("origin", ["ok", "no_range"])
@pytest.mark.parametrize(("value", "first", "last"), MATRIX)
async def test_p26_p27_a15_a16_a18_every_range_on_every_kind_of_origin(
    chaos, mirror, start, origin, value, first, last
):
    """A15, A16, A18, P26, P27, D13: right sums, and the whole object on its way once."""
    chaos.put("/k", BODY)
    chaos.script("/k", origin)
    front = await start(mirror())
    reply = await front.get("/k", {"Range": value})
    if first is None:
        assert reply.status == 416
        assert reply.headers["content-range"] == f"bytes */{SIZE}"
    else:
        assert reply.status == 206
        assert reply.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert reply.headers["content-length"] == str(last + 1 - first)
        assert reply.body == BODY[first : last + 1]
    await front.idle()
    if origin == "ok":
        assert await front.queued() == 1, "exactly one background pull"
        assert chaos.count("/k") == 1
        assert chaos.asked("/k")[0].header("range") == value
    else:
        assert chaos.count("/k") == 1, "the running answer is the pull"
        assert await front.stored("k") == BODY
        assert await front.queued() == 0


async def test_a17_a_chunked_origin_without_ranges_gives_the_whole_body(chaos, mirror, start):
    """A17."""
    chaos.put("/k", BODY)
    chaos.script("/k", "chunked")
    front = await start(mirror())
    reply = await front.get("/k", {"Range": "bytes=5-14"})
    assert (reply.status, reply.body) == (200, BODY)
    assert "content-range" not in reply.headers
    await front.idle()
    assert await front.stored("k") == BODY
    assert chaos.count("/k") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=x"},
        {"Range": "bytes=9-1"},
        {"Range": "bytes=0-1", "If-Range": '"e"'},
    ],
)
async def test_a19_other_ranges_are_ignored(chaos, mirror, start, headers):
    """A19."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    front = await start(mirror())
    reply = await front.get("/k", headers)
    assert (reply.status, reply.body) == (200, BODY)
    assert chaos.asked("/k")[0].header("range") is None
    await front.idle()
    assert await front.stored("k") == BODY


async def test_a15_a_wrong_206_of_the_origin_never_passes(chaos, mirror, start):
    """P27: an origin that answers another range than was asked."""
    chaos.put("/k", BODY)
    chaos.script("/k", "wrong_range")
    front = await start(mirror())
    reply = await front.get("/k", {"Range": "bytes=5-14"})
    assert (reply.status, reply.body) == (206, BODY[5:15])
    assert reply.headers["content-range"] == f"bytes 5-14/{len(BODY)}"
    await front.idle()
    assert await front.stored("k") == BODY, "the whole object was asked for instead"
    assert [request.header("range") for request in chaos.requests] == ["bytes=5-14", None]


async def test_a15_a_part_that_is_cut_never_looks_whole(chaos, mirror, start):
    """A12 for a range."""
    chaos.put("/k", BODY)
    chaos.script("/k", "truncate,at=100,resume=no")
    front = await start(mirror())
    raw = await front.raw_get("/k", "Range: bytes=0-49999")
    assert raw.reset or raw.status == 424
    assert len(raw.body) < 50_000


async def test_p28_fifty_ranges_of_one_key_cause_one_pull(chaos, mirror, start):
    """P28."""
    chaos.put("/k", BODY)
    front = await start(mirror())
    replies = await asyncio.gather(
        *(front.get("/k", {"Range": f"bytes={at}-{at + 9}"}) for at in range(0, 500, 10))
    )
    assert [reply.body for reply in replies] == [BODY[at : at + 10] for at in range(0, 500, 10)]
    await front.idle()
    assert await front.queued() == 1
    assert whole_requests(chaos, "/k") == []


async def test_p28_fifty_ranges_on_an_origin_without_ranges_are_one_fetch(chaos, mirror, start):
    """P28, A16."""
    chaos.put("/k", BODY)
    chaos.script("/k", "no_range")
    front = await start(mirror())
    replies = await asyncio.gather(
        *(front.get("/k", {"Range": f"bytes={at}-{at + 9}"}) for at in range(0, 500, 10))
    )
    assert [reply.body for reply in replies] == [BODY[at : at + 10] for at in range(0, 500, 10)]
    await front.idle()
    assert chaos.count("/k") == 1
    assert await front.stored("k") == BODY


async def test_a_range_near_what_has_arrived_comes_from_the_running_fill(chaos, mirror, start):
    """G10 within a process."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=20000,interval=0.1")
    front = await start(mirror())
    whole = asyncio.create_task(front.get("/k"))
    await until_asked(chaos, "/k")
    part = await front.get("/k", {"Range": "bytes=50000-50009"})
    assert (part.status, part.body) == (206, BODY[50_000:50_010])
    assert (await whole).body == BODY
    assert chaos.count("/k") == 1


async def test_a_range_far_ahead_of_the_running_fill_does_not_wait_for_it(chaos, mirror, start):
    """Range-first: at once from the origin."""
    body = os.urandom(8 * 1024 * 1024)
    chaos.put("/k", body)
    chaos.script("/k", "slow_body,step=65536,interval=0.1", "ok")
    front = await start(mirror())
    whole = asyncio.create_task(front.get("/k"))
    await until_asked(chaos, "/k")
    async with asyncio.timeout(3):
        part = await front.get("/k", {"Range": "bytes=-10"})
    assert (part.status, part.body) == (206, body[-10:])
    assert not whole.done()
    whole.cancel()


async def test_a26_without_the_queue_the_front_pulls_the_whole_itself(chaos, mirror, start, monkeypatch):
    """A15 with A26."""
    from workers.errors import BrokerUnavailable

    chaos.put("/k", BODY)
    front = await start(mirror())

    async def away(*_, **__):
        raise BrokerUnavailable("away")

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", away)
    reply = await front.get("/k", {"Range": "bytes=0-9"})
    assert (reply.status, reply.body) == (206, BODY[:10])
    assert await front.until_stored("k") == BODY
    assert len(whole_requests(chaos, "/k")) == 1


async def test_a21_with_a_range_the_part_is_judged_too(chaos, mirror, start):
    """A21, A15."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    front = await start(mirror())
    assert (await front.get("/k", {"Range": "bytes=0-9", "If-Match": '"x"'})).status == 412
    assert (await front.get("/k", {"Range": "bytes=0-9", "If-Match": '"e"'})).status == 206
    await front.idle()
    assert await front.queued() == 1
