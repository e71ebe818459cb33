"""F45, F62: who got an object on a miss revalidates and continues it on a hit."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.real

BODY = bytes(range(256)) * 400
MODIFIED = "Tue, 01 Feb 2022 03:04:05 GMT"
LATER = "Wed, 02 Feb 2022 03:04:05 GMT"


@pytest.fixture(params=['"of-the-origin"', 'W/"weak"', "bare"])
def etag(request):
    return request.param


@pytest.fixture
async def front(chaos, mirror, start, etag):
    """A gateway with one mirrored object, `k`, under a rule that says nothing of validators."""
    chaos.put("/k", BODY, [("ETag", etag), ("Last-Modified", MODIFIED)])
    front = await start(mirror())
    miss = await front.get("/k")
    assert (miss.headers["etag"], miss.headers["last-modified"]) == (etag, MODIFIED)
    await front.idle()
    return front


async def test_a_hit_carries_the_validators_of_the_miss(front, etag):
    for reply in (
        await front.get("/k"),
        await front.head("/k"),
        await front.get("/k", {"Range": "bytes=0-9"}),
        await front.get("/k", {"Range": "bytes=0-9,20-29"}),
        await front.get("/k", {"If-None-Match": etag}),
    ):
        assert (reply.headers["etag"], reply.headers["last-modified"]) == (etag, MODIFIED), reply.status


CONDITIONS = [
    ("If-None-Match", "{etag}", 304),
    ("If-None-Match", '"x", {quoted}', 304),
    ("If-None-Match", '"another"', 200),
    ("If-Modified-Since", MODIFIED, 304),
    ("If-Modified-Since", LATER, 304),
    ("If-Modified-Since", "Mon, 31 Jan 2022 03:04:05 GMT", 200),
    ("If-Unmodified-Since", MODIFIED, 200),
    ("If-Unmodified-Since", "Mon, 31 Jan 2022 03:04:05 GMT", 412),
    ("If-Match", '"another"', 412),
]


async def test_conditions_on_a_hit_are_those_of_the_miss(front, etag):
    quoted = etag if etag.endswith('"') else f'"{etag}"'
    for name, value, status in CONDITIONS:
        reply = await front.get("/k", {name: value.format(etag=etag, quoted=quoted)})
        assert reply.status == status, (name, value)


@pytest.mark.parametrize("etag", ['"of-the-origin"'], indirect=True)
async def test_a_download_that_began_on_the_miss_is_continued_on_the_hit(front, etag):
    for validator in (etag, MODIFIED):
        reply = await front.get("/k", {"Range": "bytes=1000-", "If-Range": validator})
        assert (reply.status, reply.body) == (206, BODY[1000:])
    for validator in ('"another"', LATER):
        reply = await front.get("/k", {"Range": "bytes=1000-", "If-Range": validator})
        assert (reply.status, reply.body) == (200, BODY)


@pytest.mark.parametrize("etag", ['W/"weak"'], indirect=True)
async def test_a_weak_etag_continues_no_download(front, etag):
    """RFC 9110, 13.1.5."""
    assert (await front.get("/k", {"Range": "bytes=1000-", "If-Range": etag})).status == 200
    assert (await front.get("/k", {"If-Match": etag})).status == 412


async def test_an_origin_without_validators_leaves_the_store_s(chaos, mirror, start):
    from support.origin.scripted import scripted

    async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as origin:
        front = await start(mirror(origin={"hosts": [{"host": origin.host}]}))
        miss = await front.get("/k")
        await front.idle()
    assert "etag" not in miss.headers
    hit = await front.get("/k")
    assert (await front.get("/k", {"If-None-Match": hit.headers["etag"]})).status == 304


async def test_a_rule_may_leave_validators_to_the_store(chaos, mirror, start):
    """F45, F62."""
    chaos.put("/k", BODY, [("ETag", '"of-the-origin"'), ("Last-Modified", MODIFIED)])
    front = await start(mirror(store={"etag": "store", "last_modified": False}))
    await front.get("/k")
    await front.idle()
    hit = await front.get("/k")
    assert hit.headers["etag"] != '"of-the-origin"'
    assert hit.headers["last-modified"] != MODIFIED
    info = await front.services.store.head(front.bucket, "k")
    assert hit.headers["etag"] == f'"{info.etag}"'
