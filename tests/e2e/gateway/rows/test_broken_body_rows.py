"""SEMANTICS.md 5.1, rows A12 to A14: bodies that are cut, or are not what their digest says."""

from __future__ import annotations

import os
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.real

PATH = "/img/a%20b.jpg"
BODY = os.urandom(200_000)


def code(reply):
    return ET.fromstring(reply.body).findtext("Code")


@pytest.mark.parametrize("eighth", range(8))
@pytest.mark.parametrize("kind", ["truncate", "reset", "stall"])
async def test_p03_a12_a_cut_body_never_looks_whole(chaos, mirror, start, kind, eighth):
    """A12, P3: cut at every eighth; the client sees a reset, the store nothing, the queue a job."""
    at = len(BODY) * eighth // 8
    chaos.put("/k", BODY)
    chaos.script("/k", f"{kind},at={at},resume=no")
    front = await start(mirror(origin={"timeouts": {"idle": 0.3}}))
    raw = await front.raw_get("/k")
    assert raw.reset
    assert len(raw.body) < len(BODY)
    assert BODY.startswith(raw.body)
    await front.idle()
    assert await front.stored("k") is None
    assert await front.queued() == 1


@pytest.mark.parametrize("step", ["no_last_chunk", "half_chunk", "bad_chunk"])
async def test_p07_a12_a_chunked_body_without_its_end_is_never_ended_for_the_client(
    chaos, mirror, start, step
):
    """A12, P3, P7: no terminating chunk is sent."""
    chaos.put("/k", BODY)
    chaos.script("/k", step)
    front = await start(mirror())
    raw = await front.raw_get("/k")
    assert raw.reset or raw.status == 424
    assert b"\r\n0\r\n\r\n" not in raw.data[-7:]
    await front.idle()
    assert await front.stored("k") is None


async def test_a12_an_http_1_0_client_sees_a_reset_too(chaos, mirror, start):
    """A12, without chunks: the close delimits the body, so only a reset tells."""
    chaos.put("/k", BODY)
    chaos.script("/k", "no_last_chunk")
    front = await start(mirror())
    raw = await front.raw(f"GET /{front.bucket}/k HTTP/1.0\r\n\r\n".encode())
    assert raw.reset
    chaos.script("/whole", "chunked")
    chaos.put("/whole", BODY)
    raw = await front.raw(f"GET /{front.bucket}/whole HTTP/1.0\r\n\r\n".encode())
    assert not raw.reset
    assert raw.body == BODY
    assert b"chunked" not in raw.head


async def test_p04_a13_the_end_is_held_back_until_the_digest_is_known(chaos, mirror, start):
    """A13, P4, D11."""
    chaos.put("/k", BODY)
    chaos.script("/k", "wrong_digest")
    front = await start(mirror(store={"check_md5": "stream"}))
    raw = await front.raw_get("/k")
    assert raw.reset
    assert len(raw.body) <= len(BODY) - 64 * 1024
    await front.idle()
    assert await front.stored("k") is None
    chaos.put("/good", BODY)
    chaos.script("/good", "right_digest")
    assert (await front.get("/good")).body == BODY


async def test_p04_a14_spool_sends_nothing_of_a_wrong_body(chaos, mirror, start):
    """A14, P4, D11."""
    chaos.put("/k", BODY)
    chaos.script("/k", "wrong_digest")
    front = await start(mirror(store={"check_md5": "spool"}))
    reply = await front.get("/k")
    assert reply.status == 424
    assert b"digest_mismatch" in reply.body
    await front.idle()
    assert await front.stored("k") is None
    chaos.put("/good", BODY)
    chaos.script("/good", "right_digest")
    assert (await front.get("/good")).body == BODY
    await front.idle()
    assert await front.stored("good") == BODY


async def test_a14_spool_takes_the_next_candidate_after_a_wrong_digest(chaos, mirror, start):
    """A14, B6."""
    from support.origin.chaos import ChaosOrigin

    async with ChaosOrigin() as other:
        chaos.put("/k", BODY)
        chaos.script("/k", "wrong_digest")
        other.put("/k", BODY)
        hosts = [{"host": chaos.host, "standbys": [other.host]}]
        front = await start(mirror(store={"check_md5": "spool"}, origin={"hosts": hosts}))
        assert (await front.get("/k")).body == BODY
        await front.idle()
        assert await front.stored("k") == BODY


async def test_whatever_check_md5_says_a_wrong_body_is_never_stored(chaos, mirror, start):
    """F43."""
    chaos.put("/k", BODY)
    chaos.script("/k", "wrong_digest")
    front = await start(mirror())
    await front.raw_get("/k")
    await front.idle()
    assert await front.stored("k") is None
