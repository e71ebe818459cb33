"""SEMANTICS.md 5.1, row by row: what the client gets and what the store has afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.real

KEY = "/img/a b.jpg"
PATH = "/img/a%20b.jpg"
BODY = os.urandom(200_000)
SEVEN = [
    ("Content-Type", "image/jpeg; q=1"),
    ("Content-Encoding", "x-odd"),
    ("Content-Disposition", 'attachment; filename="a.jpg"'),
    ("Cache-Control", "max-age=60"),
    ("Content-Language", "de"),
    ("Expires", "Wed, 21 Oct 2055 07:28:00 GMT"),
    ("Access-Control-Allow-Origin", "https://a.example"),
]


def code(reply):
    return ET.fromstring(reply.body).findtext("Code")


async def test_a1_a_body_with_length_reaches_client_and_store_with_all_its_headers(chaos, mirror, start):
    """A1, D20: seven headers, not five."""
    chaos.put(KEY, BODY, [*SEVEN, ("x-oss-meta-colour", "red"), ("ETag", '"origin"')])
    front = await start(mirror())
    reply = await front.get(PATH)
    assert reply.status == 200
    assert reply.body == BODY
    assert reply.headers["content-length"] == str(len(BODY))
    for name, value in SEVEN:
        assert reply.headers[name.lower()] == value
    assert reply.headers["x-oss-meta-colour"] == "red"
    assert reply.headers["x-amz-meta-colour"] == "red"
    assert reply.headers["etag"] == '"origin"'
    assert reply.headers["last-modified"] == "Wed, 01 Jan 2020 00:00:00 GMT"
    tag = f"MIRROR http%3a%2f%2f127.0.0.1%3a{chaos.port}%2fimg%2fa%2520b.jpg"
    assert reply.headers["x-oss-tag"] == tag
    await front.idle()
    again = await front.get(PATH)
    assert again.body == BODY
    assert again.headers["x-oss-tag"] == tag
    for name, value in SEVEN:
        assert again.headers[name.lower()] == value
    assert not any(name.startswith("x-amz-meta-ferryman") for name in again.headers)
    assert chaos.count(KEY) == 1
    head = await front.head(PATH)
    assert head.headers["x-oss-tag"] == tag
    assert head.headers["content-length"] == str(len(BODY))


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 9 * 1024 * 1024])
async def test_a1_every_size_is_stored_byte_for_byte(chaos, mirror, start, size):
    """A1, S2."""
    body = os.urandom(size)
    chaos.put("/k", body)
    front = await start(mirror())
    assert (await front.get("/k")).body == body
    await front.idle()
    assert await front.stored("k") == body


async def test_a2_chunked_in_chunked_out(chaos, mirror, start):
    """A2."""
    chaos.put("/k", BODY)
    chaos.script("/k", "chunked")
    front = await start(mirror())
    raw = await front.raw_get("/k")
    assert b"transfer-encoding: chunked" in raw.head
    assert b"content-length" not in raw.head
    assert raw.data.endswith(b"\r\n0\r\n\r\n")
    await front.idle()
    assert await front.stored("k") == BODY


@pytest.mark.parametrize("save", [True, False])
async def test_a3_a_body_that_ends_with_the_connection_is_passed_on_and_not_stored(
    chaos, mirror, start, save
):
    """A3: a job says why it is not."""
    chaos.put("/k", BODY)
    chaos.script("/k", "close")
    front = await start(mirror(store={"save": save}))
    reply = await front.get("/k")
    assert reply.body == BODY
    assert reply.headers["transfer-encoding"] == "chunked"
    await front.idle()
    assert await front.stored("k") is None
    assert await front.queued() == int(save)


async def test_a3_such_a_body_is_stored_when_the_rule_says_so(chaos, mirror, start):
    """A3, F57."""
    chaos.put("/k", BODY)
    chaos.script("/k", "close")
    front = await start(mirror(store={"accept_close_delimited": True}))
    await front.get("/k")
    await front.idle()
    assert await front.stored("k") == BODY


@pytest.mark.parametrize(("last", "status", "stored"), [(9, 424, False), (99, 200, True)])
async def test_p06_a4_an_unasked_206_counts_only_when_it_covers_all(
    chaos, mirror, start, last, status, stored
):
    """A4, P6, D5: 200, or a 206 that covers all."""
    chaos.put("/k", b"x" * 100)
    chaos.script("/k", f"partial,last={last}")
    front = await start(mirror())
    reply = await front.get("/k")
    assert reply.status == status
    assert "content-range" not in reply.headers
    await front.idle()
    assert (await front.stored("k") is not None) is stored


async def test_a5_an_origin_404_is_a_404_and_is_remembered(chaos, mirror, start):
    """A5, L14, D6: 404, not 424."""
    front = await start(mirror())
    chaos.script("/k", "status,code=404")
    for _ in range(3):
        reply = await front.get("/k")
        assert reply.status == 404
        assert code(reply) == "NoSuchKey"
    assert chaos.count("/k") == 1
    assert await front.stored("k") is None


async def test_a6_a_transparent_404_is_the_origins_own_also_from_the_cache(chaos, mirror, start):
    """A6."""
    front = await start(mirror(answer={"transparent": [404]}))
    chaos.script("/k", "status,code=404,body=gone-fishing")
    for _ in range(2):
        reply = await front.get("/k")
        assert (reply.status, reply.body) == (404, b"gone-fishing")
        assert reply.headers["content-type"].startswith("text/")
    assert chaos.count("/k") == 1


@pytest.mark.parametrize(
    ("step", "status"),
    [("redirect", 200), ("redirect_chain,n=9", 200), ("redirect_chain,n=11", 424), ("redirect_loop", 424),
     ("redirect_endless", 424), ("redirect_metadata", 424)],
)  # fmt: skip
async def test_a7_redirects_are_followed_up_to_ten_hops(chaos, mirror, start, step, status):
    """A7."""
    chaos.put("/k", BODY)
    chaos.script("/k", step)
    front = await start(mirror())
    reply = await front.get("/k")
    assert reply.status == status
    await front.idle()
    assert (await front.stored("k") is not None) is (status == 200)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a8_a_redirect_that_is_not_followed_passes_with_its_location_byte_for_byte(
    chaos, mirror, start, status
):
    """A8."""
    chaos.script("/k", f"redirect,code={status},to=/next%2B%2f?x=%7E+y")
    front = await start(mirror(request={"follow_redirects": False}))
    reply = await front.get("/k")
    assert reply.status == status
    assert reply.headers["location"] == "/next%2B%2f?x=%7E+y"
    assert reply.body == b""
    await front.idle()
    assert await front.stored("k") is None


ALL_STATUSES = [
    status for status in range(201, 600) if status not in {206, 304, 404} and not 300 <= status < 400
]


async def test_p05_a9_no_other_status_ever_reaches_the_store(chaos, mirror, start):
    """A9, P5, S14: statuses 201..599 with bodies."""
    front = await start(mirror(origin={"timeouts": {"first_byte": 5}}))

    async def one(status):
        key = f"/s{status}"
        chaos.script(key, f"status,code={status},body=an-error-page")
        reply = await front.get(key)
        assert reply.status == 424, status
        assert code(reply) == "MirrorFailed"
        assert b"127.0.0.1" not in reply.body
        assert b"an-error-page" not in reply.body

    for at in range(0, len(ALL_STATUSES), 20):
        await asyncio.gather(*(one(status) for status in ALL_STATUSES[at : at + 20]))
        front.services.control.health.__init__(front.services.control._clock)  # ejections are not meant here
    await front.idle()
    pages = [page async for page in front.services.store.list(front.bucket)]
    assert [entry.key for page in pages for entry in page.objects] == []


@pytest.mark.parametrize(
    ("transparent", "status", "shown"),
    [
        ("all", 403, True),
        ([403], 403, True),
        ([403], 500, False),
        ("none", 403, False),
        ("all", 503, True),
        ("all", 204, False),
        ("all", 203, False),
    ],
)
async def test_a10_a_transparent_error_is_the_origins_own(chaos, mirror, start, transparent, status, shown):
    """A10, F37: errors, from 400 on."""
    chaos.script("/k", f"status,code={status},body=own-words,retry_after=7")
    front = await start(mirror(answer={"transparent": transparent}))
    reply = await front.get("/k")
    if shown:
        assert (reply.status, reply.body) == (status, b"own-words")
        assert reply.headers["retry-after"] == "7"
    else:
        assert reply.status == 424
    await front.idle()
    assert await front.stored("k") is None


async def test_a10_a_transparent_body_over_1_mib_is_cut_with_an_abort(chaos, mirror, start):
    """A10."""
    chaos.script("/k", f"status,code=403,bytes={1024 * 1024 + 5}")
    front = await start(mirror(answer={"transparent": "all"}))
    raw = await front.raw_get("/k")
    assert raw.status == 403
    assert raw.reset
    assert not raw.data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("step", ["hangup", "reset,at=-1", "silent", "garbage", "slow_headers"])
async def test_a11_no_answer_is_a_424_and_a_queued_job(chaos, mirror, start, step):
    """A11."""
    chaos.script("/k", step)
    front = await start(mirror(origin={"timeouts": {"first_byte": 0.5}}))
    reply = await front.get("/k")
    assert reply.status == 424
    assert code(reply) == "MirrorFailed"
    await front.idle()
    assert await front.stored("k") is None
    if step != "garbage":
        assert await front.queued() == 1


async def test_a11_a_refused_connection_is_a_424_without_an_address_in_it(mirror, start):
    """A11."""
    front = await start(mirror(origin={"hosts": [{"host": "127.0.0.1:1"}]}))
    reply = await front.get("/k")
    assert reply.status == 424
    assert b"127.0.0.1" not in reply.body
    assert b"origin_unreachable" in reply.body
    root = ET.fromstring(reply.body)
    assert root.findtext("RequestId") == reply.headers["x-oss-request-id"]


async def test_a20_conditions_are_ignored_on_a_miss(chaos, mirror, start):
    """A20."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    front = await start(mirror())
    reply = await front.get(
        "/k", {"If-None-Match": '"e"', "If-Modified-Since": "Wed, 01 Jan 2050 00:00:00 GMT"}
    )
    assert (reply.status, reply.body) == (200, BODY)
    await front.idle()
    assert await front.stored("k") == BODY


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": '"e"'}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Unmodified-Since": "Wed, 01 Jan 2020 00:00:00 GMT"}, 200),
        ({"If-Unmodified-Since": "Wed, 01 Jan 2019 00:00:00 GMT"}, 412),
    ],
)
async def test_a21_if_match_is_judged_by_the_origins_validators_and_the_key_is_pulled(
    chaos, mirror, start, headers, status
):
    """A21."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    front = await start(mirror())
    reply = await front.get("/k", headers)
    assert reply.status == status
    if status == 412:
        assert code(reply) == "PreconditionFailed"
    assert await front.until_stored("k") == BODY


async def test_a22_a_client_that_leaves_at_ten_per_cent_does_not_stop_the_pull(chaos, mirror, start):
    """A22, P50: and no origin is blamed for it."""
    body = os.urandom(3 * 1024 * 1024)
    front = await start(mirror())
    for number in range(5):
        chaos.put(f"/k{number}", body)
        chaos.script(f"/k{number}", "slow_body,step=262144,interval=0.02")
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(f"GET /{front.bucket}/k{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        got = 0
        while got < len(body) // 10:
            got += len(await reader.read(65536))
        writer.transport.abort()
    for number in range(5):
        assert (
            hashlib.sha256(await front.until_stored(f"k{number}")).digest() == hashlib.sha256(body).digest()
        )
        assert chaos.count(f"/k{number}") == 1
    assert not front.services.control.health.sick


async def test_a22_without_client_and_store_the_origin_is_left_alone(chaos, mirror, start):
    """A22, F42: nobody wants the rest of an object that is not saved."""
    chaos.script("/k", "endless,interval=0.01")
    front = await start(mirror(store={"save": False}))
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(f"GET /{front.bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.read(65536)
    writer.transport.abort()
    await front.idle(timeout_s=5)
    assert await front.stored("k") is None


async def test_a22_an_object_over_the_limit_is_served_and_not_stored(chaos, mirror, start):
    """A22, F58, L12."""
    chaos.put("/k", BODY)
    chaos.put("/c", BODY)
    chaos.script("/c", "chunked")
    front = await start(mirror(store={"max_object_bytes": 1000}))
    assert (await front.get("/k")).body == BODY
    assert (await front.get("/c")).body == BODY
    await front.idle()
    assert await front.stored("k") is None
    assert await front.stored("c") is None


async def test_an_object_is_served_without_saving_when_the_rule_says_so(chaos, mirror, start):
    """F42."""
    chaos.put("/k", BODY)
    front = await start(mirror(store={"save": False}))
    assert (await front.get("/k")).body == BODY
    await front.idle()
    assert await front.stored("k") is None
    assert await front.queued() == 0


async def test_return_headers_are_set_on_answers_from_the_origin_only(chaos, mirror, start):
    """F41."""
    chaos.put("/k", BODY, [("Cache-Control", "private")])
    front = await start(
        mirror(answer={"return_headers": [{"name": "X-From", "value": "origin"},
                                          {"name": "Cache-Control", "value": "no-store"}]})
    )  # fmt: skip
    reply = await front.get("/k")
    assert (reply.headers["x-from"], reply.headers["cache-control"]) == ("origin", "no-store")
    await front.idle()
    reply = await front.get("/k")
    assert "x-from" not in reply.headers
    assert reply.headers["cache-control"] == "private"


async def test_async_status_goes_to_the_client_and_a_pull_is_queued(chaos, mirror, start):
    """F28."""
    chaos.script("/k", "status,code=202,retry_after=9")
    front = await start(mirror(origin={"async_status": 202}))
    reply = await front.get("/k")
    assert reply.status == 202
    assert reply.headers["retry-after"] == "9"
    await front.idle()
    assert await front.queued() == 1


async def test_a_dot_segment_is_never_asked_for(chaos, mirror, start):
    """Section 3.1."""
    front = await start(mirror())
    for path in ("/a/%2e%2e/b", "/%2e/b", "/a/.%2e"):
        raw = await front.raw_get(path)
        assert raw.status == 404
    assert chaos.count() == 0


async def test_the_first_byte_comes_before_the_last_one_left_the_origin(chaos, mirror, start):
    """The miss path streams."""
    chaos.put("/k", b"x" * 40_000)
    chaos.script("/k", "slow_body,step=10000,interval=0.3")
    front = await start(mirror())
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    loop = asyncio.get_running_loop()
    writer.write(f"GET /{front.bucket}/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(10_000)
    first = loop.time()
    await reader.read()
    writer.close()
    assert loop.time() - first > 0.5
