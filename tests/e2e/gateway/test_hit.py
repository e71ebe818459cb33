"""What a client gets of an object that the store has."""

from __future__ import annotations

import email
import random

import pytest

pytestmark = pytest.mark.real

BODY = random.Random(12).randbytes(100_000)  # the same in every process: it names the tests


@pytest.fixture
async def front(chaos, mirror, start):
    """A gateway with one mirrored object `k` and one of a user's own, `own`."""
    chaos.put(
        "/k", BODY, [("Content-Type", "text/plain"), ("Expires", "0"), ("Content-Disposition", "a; n=é")]
    )
    front = await start(mirror())
    await front.get("/k")
    await front.idle()
    await front.services.store.put_small(front.bucket, "own", BODY, content_type="text/own")
    return front


@pytest.mark.parametrize("key", ["k", "own"])
@pytest.mark.parametrize(
    ("value", "status", "part"),
    [
        ("bytes=0-9", 206, BODY[:10]),
        ("bytes=-10", 206, BODY[-10:]),
        ("bytes=99990-", 206, BODY[-10:]),
        ("bytes=99990-200000", 206, BODY[-10:]),
        ("bytes=100000-", 416, None),
        ("bytes=9-1", 200, BODY),
        ("lines=1-2", 200, BODY),
        ("bytes=0-,0-", 200, BODY),
    ],
)
async def test_a_range_of_a_stored_object(front, key, value, status, part):
    reply = await front.get(f"/{key}", {"Range": value})
    assert reply.status == status
    if status == 416:
        assert reply.headers["content-range"] == "bytes */100000"
        assert b"InvalidRange" in reply.body
    else:
        assert reply.body == part
        assert ("content-range" in reply.headers) is (status == 206)


async def test_several_ranges_are_multipart_byteranges(front):
    reply = await front.get("/k", {"Range": "bytes=0-4,50000-50009,-3,200000-"})
    assert reply.status == 206
    head = f"Content-Type: {reply.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + reply.body).get_payload()
    assert [part.get("Content-Range") for part in parts] == [
        "bytes 0-4/100000",
        "bytes 50000-50009/100000",
        "bytes 99997-99999/100000",
    ]
    assert reply.body.count(BODY[50_000:50_010]) == 1
    assert {part.get_content_type() for part in parts} == {"text/plain"}
    one = await front.get("/k", {"Range": "bytes=0-4,200000-"})
    assert (one.status, one.body) == (206, BODY[:5])
    assert one.headers["content-range"] == "bytes 0-4/100000"


async def test_conditions_are_judged_by_the_stored_object(front):
    plain = await front.get("/own")
    etag, modified = plain.headers["etag"], plain.headers["last-modified"]
    for headers, status in [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
        ({"Range": "bytes=0-9", "If-Range": etag}, 206),
        ({"Range": "bytes=0-9", "If-Range": modified}, 206),
        ({"Range": "bytes=0-9", "If-Range": '"x"'}, 200),
    ]:
        for method in ("GET", "HEAD"):
            reply = await front.request(method, "/own", headers)
            expected = 200 if method == "HEAD" and status == 206 else status
            assert reply.status == expected, (method, headers)
            if status == 304:
                assert (reply.body, reply.headers["etag"]) == (b"", etag)


async def test_what_is_replayed_is_replayed_in_parts_and_without_a_body(chaos, mirror, start):
    """S5, S6: also on 206, 304 and HEAD."""
    chaos.put("/k", BODY, [("Access-Control-Allow-Origin", "https://a.example")])
    front = await start(mirror())
    await front.get("/k")
    await front.idle()
    etag = (await front.head("/k")).headers["etag"]
    for method, headers, status in [
        ("HEAD", {}, 200),
        ("GET", {"Range": "bytes=0-3"}, 206),
        ("GET", {"Range": "bytes=0-3,9-10"}, 206),
        ("GET", {"If-None-Match": etag}, 304),
    ]:
        reply = await front.request(method, "/k", headers)
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
        assert reply.headers["x-oss-tag"].startswith("MIRROR ")


async def test_response_overrides_replace_headers_and_cannot_break_them(front):
    reply = await front.get(
        "/own?response-content-type=text%2Fhtml&response-content-disposition=attachment%3B%20filename%3Da"
        "&response-cache-control=no-cache&response-expires=0"
    )
    assert reply.headers["content-type"] == "text/html"
    assert reply.headers["content-disposition"] == "attachment; filename=a"
    assert (reply.headers["cache-control"], reply.headers["expires"]) == ("no-cache", "0")
    assert reply.body == BODY
    reply = await front.get("/own?response-content-type=a%0d%0aSet-Cookie:%20x")
    assert reply.status == 400
    assert "set-cookie" not in reply.headers


async def test_replayed_headers_belong_to_the_mirrored_object_only(front):
    """S4, S6, S16; a user's own later object shows none."""
    reply = await front.get("/k")
    assert reply.headers["x-oss-tag"].startswith("MIRROR ")
    assert reply.headers["expires"] == "0"
    assert reply.headers["content-disposition"] == "a; n=\udce9", "the byte that the origin sent"
    await front.services.store.put_small(front.bucket, "k", b"mine now", content_type="a/b")
    reply = await front.get("/k")
    assert reply.body == b"mine now"
    assert "x-oss-tag" not in reply.headers
    assert "expires" not in reply.headers


async def test_hits_may_be_redirected_to_a_presigned_url(chaos, mirror, start):
    chaos.put("/k", BODY)
    front = await start(mirror(), bucket_settings={"hits": "redirect"})
    assert (await front.get("/k")).body == BODY
    await front.idle()
    reply = await front.get("/k?response-content-type=a%2Fb")
    assert reply.status == 302
    assert reply.headers["cache-control"] == "no-store"
    async with front.session.get(reply.headers["location"]) as direct:
        assert direct.status == 200
        assert await direct.read() == BODY
    assert (await front.head("/k")).status == 200


async def test_hits_off_goes_straight_to_the_rule_but_never_fetches_what_is_there(chaos, mirror, start):
    """Behind a gateway that has asked the store itself."""
    chaos.put("/k", BODY)
    front = await start(mirror(), bucket_settings={"hits": "off"})
    assert (await front.get("/k")).body == BODY
    await front.idle()
    assert (await front.get("/k")).body == BODY
    assert chaos.count("/k") == 1
    await front.services.store.put_small(front.bucket, "own", b"mine", content_type="a/b")
    assert (await front.get("/own")).body == b"mine"
    assert chaos.count("/own") == 0


async def test_an_empty_object_is_an_empty_answer(front):
    await front.services.store.put_small(front.bucket, "empty", b"", content_type="a/b")
    reply = await front.get("/empty")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert (await front.get("/empty", {"Range": "bytes=0-0"})).status in {200, 416}


async def test_a_store_that_is_down_is_503_and_no_miss(chaos, mirror, start, monkeypatch):
    """Only a 404 of the store is a miss."""
    from workers.errors import StoreUnavailable

    chaos.put("/k", BODY)
    front = await start(mirror())

    async def down(*_, **__):
        raise StoreUnavailable("down")

    monkeypatch.setattr(front.services.store, "get", down)
    monkeypatch.setattr(front.services.store, "head", down)
    for method in ("GET", "HEAD"):
        reply = await front.request(method, "/k")
        assert reply.status == 503
        assert reply.headers["retry-after"] == "2"
    assert chaos.count() == 0
