"""One suite for every store: each behaves as the program relies on, but where `known_stores` says otherwise.

SeaweedFS and moto in every run, Ceph RGW and `rclone serve s3` in the slow one.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from support.store.known import client_of, stores
from support.store.probed import probed_once
from support.store.stores import MIB, meta_of, put, read
from workers.errors import KeyNotRepresentable, StoreRejected, StoreUnavailable
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.store.guarantees import CreateOnly
from workers.store.known_stores import MOTO, SEAWEEDFS, recognised
from workers.store.listing import list_uploads
from workers.store.metadata import is_mirrored, object_meta, replay_headers
from workers.store.probe.trial import versions_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.store.client import ObjectStore
    from workers.store.known_stores import KnownStore

pytestmark = pytest.mark.real

PLAN = FetchPlan(bucket="b", rule="images", groups=(OriginGroup(primary=Origin(host="o.example")),))


@pytest.fixture(params=stores(SEAWEEDFS, MOTO))
def known(request: pytest.FixtureRequest) -> KnownStore:
    """What is known of the store that the test runs against."""
    return request.param


@pytest_asyncio.fixture
async def new_store(
    request: pytest.FixtureRequest, known: KnownStore, bucket: str
) -> AsyncIterator[ObjectStore]:
    """A client that has yet to make its self-test, for tests of that."""
    async with client_of(known, request) as client:
        await client.ensure_bucket(bucket)
        yield client


@pytest_asyncio.fixture
async def store(new_store: ObjectStore) -> AsyncIterator[ObjectStore]:
    """A client to which the self-test of an earlier test is known."""
    with probed_once(new_store.settings.endpoint):
        yield new_store


async def keys_of(store: ObjectStore, bucket: str, prefix: str = "") -> list[str]:
    return [listed.key async for page in store.list(bucket, prefix) for listed in page.objects]


async def open_uploads(store: ObjectStore, bucket: str) -> int:
    return len([u async for u in list_uploads(store.transport, bucket, "", headers={})])


async def test_a_bucket_in_which_nothing_was_ever_sent_in_parts_has_no_open_uploads(new_store, bucket):
    assert await open_uploads(new_store, bucket) == 0


async def test_self_test_finds_what_is_known_of_the_store_and_leaves_nothing(new_store, known, bucket):
    found = await new_store.guarantees(bucket)
    assert known.differences(found) == []
    assert found.missing_key_status == 404
    assert found.race_free is not (known.deviates("create_only") or known.deviates("multipart_create_only"))
    assert (found.collation != "bytes") is known.deviates("listing_order")
    assert bool(found.unrepresentable) is known.deviates("keys")
    assert (found.checksums == ()) is known.deviates("checksums")
    assert found.if_match is not known.deviates("if_match")
    assert [key for key in await keys_of(new_store, bucket) if not key.startswith(".ferryman/probe/")] == []
    assert await open_uploads(new_store, bucket) == 0
    assert any(f"create-only PUT: {found.create_only} (proven)" in line for line in found.lines())


async def test_the_store_is_recognised_by_its_answers(store, known, bucket):
    answer = await store.transport.exchange("HEAD", bucket)
    assert recognised(answer.headers) is known


@pytest.mark.parametrize("sized", [True, False], ids=["known-length", "unknown-length"])
@pytest.mark.parametrize("size", [0, 1, 65_537, 5 * MIB, 5 * MIB + 1, 11 * MIB])
async def test_body_arrives_byte_for_byte(store, known, bucket, size, sized):
    """S2: 0-byte objects too; parts start above the part size."""
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    commit = await put(
        store,
        bucket,
        "dir/k",
        [body[i : i + 100_000] for i in range(0, size, 100_000)],
        known=sized,
    )
    assert commit.created
    assert commit.size == size
    assert commit.sha256 == hashlib.sha256(body).hexdigest()
    assert await read(store, bucket, "dir/k") == body
    info = await store.head(bucket, "dir/k")
    assert info is not None
    parts = size > 5 * MIB and not (await store.guarantees(bucket)).prefers_one_put
    assert info.size == size
    assert (info.etag == commit.etag) is not (parts and known.deviates("multipart_etag"))
    assert ("-" in commit.etag) is parts
    assert await open_uploads(store, bucket) == 0
    assert store.memory.used_bytes == 0


@pytest.mark.parametrize("size", [100, 6 * MIB])
async def test_second_upload_never_replaces_the_first(store, known, bucket, size):
    """S11."""
    first = await put(store, bucket, "k", b"a" * size)
    second = await put(store, bucket, "k", b"b" * size)
    assert first.created
    assert not second.created
    assert second.etag == first.etag or known.deviates("multipart_etag")
    assert await read(store, bucket, "k") == b"a" * size
    assert await open_uploads(store, bucket) == 0


async def test_p21_of_twenty_racing_uploads_one_commits(store, known, bucket):
    """P21: differing bodies; the one that is there is the one that was told so."""
    await store.guarantees(bucket)
    commits = await asyncio.gather(*(put(store, bucket, "k", f"body {n}".encode()) for n in range(20)))
    winners = [n for n, commit in enumerate(commits) if commit.created]
    assert (len(winners) > 1) is known.deviates("create_only")
    assert await read(store, bucket, "k") in [f"body {winner}".encode() for winner in winners]


async def test_headers_and_provenance_come_back(store, known, bucket):
    """S3 to S9, S16: native headers unchanged, the rest replayed."""
    headers = [
        ("Content-Type", "text/html; charset=gb2312"),
        ("Content-Encoding", "gzip"),
        ("Cache-Control", "max-age=60"),
        ("Content-Language", "de"),
        ("Expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
        ("Content-Disposition", 'attachment; filename="ü.txt"'),
        ("Access-Control-Allow-Origin", "*"),
        ("x-oss-meta-color", "blau"),
        ("x-cos-meta-ort", "Köln"),
        ("ETag", '"abc"'),
    ]
    url = "http://www.example-domain.com/dir1/image/example_object.jpg"
    meta = object_meta(headers, PLAN, key="k", url=url, attempt="a", fetched_at="2026-01-01T00:00:00Z")
    await put(store, bucket, "k", b"body", meta=meta, attempt="a")
    info = await store.head(bucket, "k")
    assert info is not None
    got = {name.lower(): value for name, value in info.headers}
    for name, value in headers[:5]:
        assert (got.get(name.lower()) == value) is not (name == "Expires" and known.deviates("expires"))
    assert is_mirrored(info)
    replayed = {name.lower(): value for name, value in replay_headers(info)}
    assert replayed["x-oss-tag"] == (
        "MIRROR http%3a%2f%2fwww.example-domain.com%2fdir1%2fimage%2fexample_object.jpg"
    )
    assert replayed["access-control-allow-origin"] == "*"
    assert replayed["content-disposition"] == 'attachment; filename="ü.txt"'
    assert replayed["x-amz-meta-ort"] == "Köln"
    assert info.user_meta["color"] == "blau"
    assert info.user_meta["ferryman-sha256"] == hashlib.sha256(b"body").hexdigest()
    assert info.user_meta["ferryman-source-etag"] == '"abc"'


async def test_p37_missing_type_is_not_invented(store, known, bucket):
    """P37, S3: what the store says then is the store's own word."""
    meta = object_meta([], PLAN, key="k.png", url="http://o.example/k.png", attempt="a", fetched_at="t")
    assert meta.headers == ()
    await put(store, bucket, "k.png", b"x", meta=meta, attempt="a")
    info = await store.head(bucket, "k.png")
    assert info is not None
    assert ("image/png" in dict(info.headers).values()) is known.deviates("content_type")


async def test_p39_long_key_in_the_tag_is_stored_all_the_same(store, bucket):
    """P39, S10: 1023 bytes of CJK; the tag is plain MIRROR."""
    key = "中" * 80 + "/" + "文" * 80 + "/" + "字" * 80
    url = "http://o.example/" + "%E4%B8%AD" * 330
    meta = object_meta(
        [("x-amz-meta-note", "n" * 600)],
        PLAN,
        key=key,
        url=url,
        attempt="a",
        fetched_at="2026-01-01T00:00:00Z",
    )
    assert "x-oss-tag" in meta.cut
    assert (await put(store, bucket, key, b"x", meta=meta, attempt="a")).created
    info = await store.head(bucket, key)
    assert info is not None
    assert dict(replay_headers(info))["x-oss-tag"] == "MIRROR"


ODD_KEYS = [
    "a b", "a+b", "a%20b", "a%2Bb", "e\u0301.txt", "\u00e9.txt", "q?1#2.txt", "a=b&c,(d)@e:f!.txt",
    "100%.txt", ".well-known/~x", "quote\"'<&>.txt", "\U0001f6a2.png", "tab\there", "back\\slash",
    "c\x01ontrol", "x" * 200,
]  # fmt: skip


async def test_p17_p16_odd_keys_are_objects_of_their_own(store, known, bucket):
    """P16, P17, U22 to U31, U36: no two of them meet, and a listing names them exactly."""
    left_out = {"back\\slash"} if known is SEAWEEDFS else set()
    if known.deviates("unicode_forms"):
        left_out.add("\u00e9.txt")
        assert (await put(store, bucket, "e\u0301.txt", b"decomposed")).created
        assert await read(store, bucket, "\u00e9.txt") == b"decomposed", "they are one"
        await store.delete(bucket, "e\u0301.txt")
    keys = [key for key in ODD_KEYS if key not in left_out]
    for key in keys:
        assert (await put(store, bucket, key, key.encode())).created, key
    for key in keys:
        assert await read(store, bucket, key) == key.encode(), key
    listed = [key for key in await keys_of(store, bucket) if not key.startswith(".ferryman/probe/")]
    assert sorted(listed) == sorted(keys)


@pytest.mark.parametrize(
    ("kept", "odd"),
    [("a/b", "a//b"), ("p", "p/"), ("d/x", "d/./x"), ("d/x", "d/../x"), ("a/b", "a")],
)
async def test_p13_p15_keys_like_others_are_held_or_listed_as_not_representable(
    store, known, bucket, kept, odd
):
    """P13, P15, S17, U32, U35: distinct where the store can, key_not_representable where it cannot."""
    assert (await put(store, bucket, kept, b"kept")).created
    if known.deviates("keys"):
        # A store that says 500 of `a` beside `a/b` is tried again, and the queue lists it in the end.
        with pytest.raises((KeyNotRepresentable, StoreUnavailable) if odd == "a" else KeyNotRepresentable):
            await put(store, bucket, odd, b"odd")
    else:
        assert (await put(store, bucket, odd, b"odd")).created
        assert await read(store, bucket, odd) == b"odd"
        assert set(await keys_of(store, bucket)) == {kept, odd}
    hidden = odd == "a" and known.deviates("hides_below")
    assert await read(store, bucket, kept) == (None if hidden else b"kept")


async def test_p15_empty_directory_marker_is_held_or_refused_before_it_hides_another_key(
    store, known, bucket
):
    """U35, P15: `photos/` without a body; a store of paths would make a file `photos` of it."""
    if "directory_marker" in known.guarantees.unrepresentable:
        with pytest.raises(KeyNotRepresentable):
            await put(store, bucket, "photos/", b"")
    else:
        assert (await put(store, bucket, "photos/", b"")).created
        info = await store.head(bucket, "photos/")
        assert info is not None
        assert info.size == 0
    assert await store.head(bucket, "photos") is None
    assert (await put(store, bucket, "photos/1.png", b"one")).created


async def test_listing_comes_in_pages_with_sizes_and_etags(store, bucket):
    expected = {}
    for number in range(7):
        commit = await put(store, bucket, f"dir/{number}", b"x" * number)
        expected[f"dir/{number}"] = (number, commit.etag)
    async for page in store.list(bucket, "dir/"):
        for listed in page.objects:
            assert expected.pop(listed.key) == (listed.size, listed.etag)
            assert listed.last_modified > 1_000_000_000
    assert expected == {}
    assert await keys_of(store, bucket, "none/") == []


async def test_ranges_and_conditions_reach_the_store(store, known, bucket):
    commit = await put(store, bucket, "k", b"0123456789")
    async with await store.get(bucket, "k", headers=[("Range", "bytes=2-4")]) as response:
        assert response.status == 206
        assert response.info is not None
        assert response.info.size == 10
        assert await response.read() == b"234"
    async with await store.get(bucket, "k", headers=[("If-None-Match", f'"{commit.etag}"')]) as response:
        assert response.status == 304
    async with await store.get(bucket, "k", headers=[("If-Match", '"other"')]) as response:
        assert (response.status != 412) is known.deviates("read_conditions")
    async with await store.get(bucket, "k", headers=[("Range", "bytes=50-60")]) as response:
        assert response.status == 416
    async with await store.get(bucket, "missing") as response:
        assert response.status == 404
    assert await store.head(bucket, "missing") is None


async def test_presigned_url_opens_one_object(store, bucket):
    import httpx

    await put(store, bucket, "a b/ü.txt", b"body")
    url = store.presign_get(
        bucket, "a b/ü.txt", expires_s=60, params={"response-content-type": "text/x-test"}
    )
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
    assert answer.status_code == 200
    assert answer.content == b"body"
    assert answer.headers["content-type"].startswith("text/x-test")


async def test_delete_and_small_reports(store, bucket):
    await store.put_small(bucket, ".ferryman/report.json", b"{}", content_type="application/json")
    await store.put_small(bucket, ".ferryman/report.json", b"[]", content_type="application/json")
    assert await read(store, bucket, ".ferryman/report.json") == b"[]"
    await store.delete(bucket, ".ferryman/report.json")
    await store.delete(bucket, ".ferryman/report.json")
    assert await store.head(bucket, ".ferryman/report.json") is None


async def test_replacement_of_our_own_object(store, bucket):
    """S12."""
    first = await put(store, bucket, "k", b"one")
    assert (await put(store, bucket, "k", b"two", replace_etag=first.etag)).created
    assert await read(store, bucket, "k") == b"two"
    assert not (await put(store, bucket, "k", b"three", replace_etag=first.etag)).created
    assert await read(store, bucket, "k") == b"two"


async def test_object_tags_are_set(store, known, bucket):
    """F46."""
    from dataclasses import replace

    meta = replace(meta_of("a"), tags=(("team", "web + cdn"), ("x", "1")))
    await put(store, bucket, "k", b"x", meta=meta, attempt="a")
    answer = await store.transport.exchange("GET", bucket, "k", query=[("tagging", "")])
    assert (b"<Value>web + cdn</Value>" not in answer.body) is known.deviates("tags_readable")


async def test_ensure_bucket_twice_and_with_a_new_name(store, bucket):
    await store.ensure_bucket(bucket)
    await store.ensure_bucket(f"n-{uuid.uuid4().hex[:12]}")


async def test_versioned_bucket_is_seen_and_never_overwritten(new_store, known, bucket):
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    from workers.store.wire.signing import sha256_hex

    asking = new_store.transport.exchange(
        "PUT",
        bucket,
        query=[("versioning", "")],
        body=body,
        payload_sha256=sha256_hex(body),
    )
    if known.deviates("versioning"):
        with pytest.raises(StoreRejected, match="NotImplemented"):
            await asking
        return
    await asking
    found = await new_store.guarantees(bucket)
    assert found.versioned
    left = await new_store.transport.exchange(
        "GET", bucket, query=[("versions", ""), ("prefix", ".ferryman/probe/"), ("encoding-type", "url")]
    )
    assert versions_of(left.body) == [], "neither versions nor delete markers of the self-test stay"
    guarded = found.create_only is CreateOnly.IF_NONE_MATCH
    assert guarded is not known.deviates("versioned_create_only")
    assert (await put(new_store, bucket, "k", b"one")).created
    assert not (await put(new_store, bucket, "k", b"two")).created
    assert (await put(new_store, bucket, "l", b"x" * (6 * MIB))).created
    assert not (await put(new_store, bucket, "l", b"y" * (6 * MIB))).created
    assert await read(new_store, bucket, "k") == b"one"
