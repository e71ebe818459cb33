"""What a client, and who greps for its request id, is told when an origin answers oddly (section 5)."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
import structlog
from structlog.testing import capture_logs

from support.origin.scripted import scripted

pytestmark = pytest.mark.real

BODY = bytes(range(256)) * 40


def code(reply):
    return ET.fromstring(reply.body).findtext("Code")


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_a_3xx_that_answers_no_question_is_a_failure(chaos, mirror, start, status):
    """A9: no client asked with a condition, and nobody can follow."""
    chaos.script("/k", f"status,code={status}")
    front = await start(mirror(answer={"transparent": "all"}))
    reply = await front.get("/k")
    assert (reply.status, code(reply)) == (424, "MirrorFailed")
    assert f"origin_status {status}" in reply.text


@pytest.mark.parametrize("status", [304, 305])
async def test_a_304_is_a_failure_also_where_redirects_pass(chaos, mirror, start, status):
    """A8, A9."""
    chaos.script("/k", f"status,code={status}")
    front = await start(mirror(request={"follow_redirects": False}))
    assert (await front.get("/k")).status == 424


async def test_a_status_beyond_599_is_a_424_whatever_is_transparent(chaos, mirror, start):
    """A9, F37: RFC 9110 knows nothing beyond 599."""
    chaos.script("/k", "status,code=799,body=odd")
    front = await start(mirror(answer={"transparent": "all"}))
    assert (await front.get("/k")).status == 424


async def test_a_transparent_401_says_how_to_log_in(chaos, mirror, start):
    """A10."""
    chaos.script("/k", "needs_auth,challenge=Basic")
    front = await start(mirror(answer={"transparent": "all"}))
    reply = await front.get("/k")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Basic")


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("throttle,code=429,retry_after=7", "7"),
        ("throttle,code=503,retry_after=40", "40"),
        ("status,code=503", "5"),
        ("status,code=500", None),
    ],
)
async def test_a_424_says_when_the_origin_may_be_asked_again(chaos, mirror, start, step, after):
    """A9, B8."""
    chaos.script("/k", step)
    front = await start(mirror())
    reply = await front.get("/k")
    assert (reply.status, reply.headers.get("retry-after")) == (424, after)


@pytest.mark.parametrize(("last", "whole"), [(9, False), (99, True)])
async def test_a4_a_part_that_calls_itself_200_is_neither_served_nor_stored(
    chaos, mirror, start, last, whole
):
    """A4, P6."""
    chaos.put("/k", b"x" * 100)
    chaos.script("/k", f"partial,code=200,last={last}")
    front = await start(mirror())
    reply = await front.get("/k")
    assert reply.status == (200 if whole else 424)
    assert "content-range" not in reply.headers
    await front.idle()
    assert (await front.stored("k") is not None) is whole


async def test_a_range_that_comes_as_a_part_under_200_is_cut_from_the_whole(chaos, mirror, start):
    """A15, A4: what such an origin says of ranges is worth nothing."""
    chaos.put("/k", BODY)
    chaos.script("/k", "partial,code=200,first=5,last=9", "ok")
    front = await start(mirror())
    reply = await front.get("/k", {"Range": "bytes=5-9"})
    assert (reply.status, reply.body) == (206, BODY[5:10])
    await front.idle()
    assert await front.stored("k") == BODY


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("status,code=500", {"origin_status": 500, "reason": "origin_status"}),
        ("status,code=403", {"origin_status": 403, "reason": "origin_status"}),
        ("redirect_loop", {"reason": "redirect_refused"}),
        ("garbage", {"reason": "origin_malformed"}),
        ("hangup", {"reason": "origin_unreachable"}),
    ],
)
async def test_one_line_with_the_request_id_says_which_origin_what_came_and_why(
    chaos, mirror, start, step, found
):
    """A9, A11."""
    chaos.script("/k", *[step] * 5)
    front = await start(mirror())
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        reply = await front.get("/k", {"X-Request-Id": "trace-of-a-client"})
    (line,) = [line for line in lines if line["event"] == "miss_failed"]
    assert reply.status == 424
    assert line["request_id"] == "trace-of-a-client"
    assert line["answer_id"] == reply.headers["x-amz-request-id"]
    assert (line["key"], line["bucket"], line["rule"], line["answered"]) == ("k", front.bucket, "r", 424)
    assert line["origin"] == chaos.host
    assert {name: line[name] for name in found} == found
    assert chaos.host in line["error"]


async def test_an_answer_that_is_cut_is_found_by_the_client_s_id_too(chaos, mirror, start):
    """A12."""
    chaos.put("/k", BODY)
    chaos.script("/k", *["truncate,at=100,resume=no"] * 30)
    front = await start(mirror(origin={"max_attempts": 1}))
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await front.raw_get("/k", "X-Request-Id: trace-of-a-client")
        await front.idle()
    mine = {line["event"]: line for line in lines if line.get("request_id") == "trace-of-a-client"}
    assert mine["origin_body_failed"]["origin"] == chaos.host
    assert "after 100" in mine["origin_body_failed"]["error"]
    assert "answer_cut" in mine


async def test_a_type_and_a_coding_that_the_origin_never_sent_are_on_no_hit(mirror, start):
    """A1, S3: from the miss to the hit one object."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Encoding: aws-chunked\r\n\r\nabc"
    async with scripted([head]) as origin:
        front = await start(mirror(origin={"hosts": [{"host": origin.host}]}))
        miss = await front.get("/page.html")
        await front.idle()
        hit = await front.get("/page.html")
        head_only = await front.head("/page.html")
    for reply in (miss, hit, head_only):
        assert "content-type" not in reply.headers
        assert "content-encoding" not in reply.headers
    assert hit.body == miss.body == b"abc"
