"""Paths that two programs could read differently, signed by who may do everything in the bucket."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

import pytest

from support.spellings import OTHERS, SECRETS, TRICKS
from support.store.s3_calls import KEY_ID, SECRET
from workers.store.wire.signing import Credentials

if TYPE_CHECKING:
    from support.store.s3_calls import S3Caller, S3Reply

pytestmark = pytest.mark.real

#: What no spelling may give to a caller.
_HIDDEN = {*SECRETS.values(), OTHERS}
_HOST = "files.example"


@pytest.fixture
async def site(start, caller):
    """A front, its caller, the paths to try, and a check that nobody was harmed."""
    front = await start(bucket_settings={"hosts": [_HOST]})
    store, other = front.services.store, f"t-{uuid.uuid4().hex[:20]}"
    await store.ensure_bucket(other)
    await store.put_small(other, "secret", OTHERS, content_type="text/plain")
    for key, body in SECRETS.items():
        await store.put_small(front.bucket, key, body, content_type="text/plain")
    paths = [trick.format(other=other, host="h") for trick in TRICKS if trick.startswith("/")]

    async def changed() -> dict[str, bytes | None]:
        kept = {(front.bucket, key): body for key, body in SECRETS.items()} | {(other, "secret"): OTHERS}
        found: dict[str, bytes | None] = {}
        for (bucket, key), body in kept.items():
            async with await store.get(bucket, key) as answer:
                now = None if answer.status == 404 else await answer.read()
            if now != body:
                found[f"{bucket}/{key}"] = now
        return found

    return front, caller(front), paths, changed


def _key(path: str) -> str | None:
    """The key that a path names: decoded once."""
    try:
        return unquote_to_bytes(path.encode("latin-1")[1:]).decode()
    except UnicodeDecodeError:
        return None


async def _presigned(s3: S3Caller, method: str, path: str, body: bytes = b"") -> S3Reply:
    host = f"127.0.0.1:{s3.port}"
    who = Credentials(KEY_ID, SECRET)
    query = s3.signer.presign(who, method, path, [], host=host, expires_s=60, now=time.time())
    return await s3.send(method, path, query, {"host": host}, body)


@pytest.mark.parametrize("how", ["header", "host", "link"])
async def test_a_signed_write_or_delete_touches_the_key_that_was_signed_or_nothing(site, how):
    front, s3, paths, changed = site

    async def send(method: str, path: str, body: bytes = b"") -> S3Reply:
        if how == "host":
            return await s3.call(method, path, body=body, headers={"host": _HOST})
        path = f"/{front.bucket}{path}"
        if how == "link":
            return await _presigned(s3, method, path, body)
        return await s3.call(method, path, body=body)

    taken: dict[str, bytes] = {}
    for number, path in enumerate(paths):
        read = await send("GET", path)
        assert read.body not in _HIDDEN, path
        body = f"written {number}".encode()
        put = await send("PUT", path, body)
        assert put.status < 500 or put.code == "NotImplemented", (path, put.status, put.body)
        if put.status == 200:
            key = _key(path)
            assert key is not None, path
            taken[key] = body
    assert await changed() == {}
    assert len(taken) > 5
    for key, body in taken.items():
        # As its plainest spelling names it: no two keys are one.
        got = await s3.call("GET", f"/{front.bucket}/{quote(key, safe='/-._~')}")
        # A store that loses bodies under such keys makes a marker of a short one.
        assert (got.status, got.body or key[-1:]) in {(200, body), (200, "/")}, key
    for path in paths:
        assert (await send("DELETE", path)).status < 500, path
    assert await changed() == {}


async def test_no_spelling_of_a_copys_source_gives_what_is_not_the_callers(site):
    front, s3, paths, changed = site
    for number, path in enumerate(paths):
        whole = f"/{front.bucket}{path}"
        for source in (whole, whole[1:], quote(whole), path):
            headers = {"x-amz-copy-source": source}
            to = f"/{front.bucket}/copied-{number}"
            reply = await s3.call("PUT", to, headers=headers)
            assert reply.status < 500 or reply.code == "NotImplemented", (source, reply.body)
            if b"<ETag>" in reply.body:
                copied = await s3.call("GET", to)
                assert copied.body not in _HIDDEN, source
    assert await changed() == {}


async def test_no_spelling_of_a_key_deletes_what_is_not_the_callers_in_a_list_of_many(site):
    front, s3, paths, changed = site
    for key in {key for path in paths for key in (_key(path), path[1:], path) if key and "\0" not in key}:
        body = f"<Delete><Object><Key>{escape(key)}</Key></Object></Delete>".encode()
        reply = await s3.call("POST", f"/{front.bucket}", "delete=", body=body)
        assert reply.status < 500, (key, reply.body)
    assert await changed() == {}


async def test_no_spelling_of_a_prefix_lists_our_room_or_another_bucket(site):
    front, s3, paths, changed = site
    for path in paths:
        for prefix in {_key(path) or "", path, path[1:]}:
            for query in (f"list-type=2&prefix={quote(prefix, safe='')}", f"prefix={quote(prefix, safe='')}"):
                reply = await s3.call("GET", f"/{front.bucket}", query)
                assert reply.status < 500, (query, reply.body)
                assert b"ours</Key>" not in reply.body, query
                assert b"secret</Key>" not in reply.body, query
    assert await changed() == {}


async def test_no_upload_in_parts_ends_where_its_key_does_not_say(site):
    front, s3, paths, changed = site
    for path in paths:
        reply = await s3.call("POST", f"/{front.bucket}{path}", "uploads=")
        assert reply.status < 500, (path, reply.body)
        if reply.status != 200:
            continue
        upload = reply.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
        where = f"/{front.bucket}{path}"
        part = await s3.call("PUT", where, f"partNumber=1&uploadId={upload}", body=b"part")
        tag = part.headers.get("etag", "")
        done = f"<Part><PartNumber>1</PartNumber><ETag>{escape(tag)}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{done}</CompleteMultipartUpload>".encode()
        ended = await s3.call("POST", where, f"uploadId={upload}", body=document)
        assert ended.status < 500, (path, ended.body)
    assert await changed() == {}


async def test_no_spelling_of_a_key_reads_or_changes_the_tags_of_another_one(site):
    front, s3, paths, changed = site
    document = "<Tagging><TagSet><Tag><Key>k</Key><Value>%s</Value></Tag></TagSet></Tagging>"
    for key in ("plain", "d/plain"):
        own = await s3.call("PUT", f"/{front.bucket}/{key}", "tagging=", body=(document % "own").encode())
        assert own.status == 200, own.body
    for path in paths:
        read = await s3.call("GET", f"/{front.bucket}{path}", "tagging=")
        assert read.status < 500, (path, read.body)
        assert b"<Value>own</Value>" not in read.body, path
        for method, body in (("PUT", document % "mine"), ("DELETE", "")):
            written = await s3.call(method, f"/{front.bucket}{path}", "tagging=", body=body.encode())
            assert written.status < 500, (path, written.body)
    for key in ("plain", "d/plain"):
        assert b"<Value>own</Value>" in (await s3.call("GET", f"/{front.bucket}/{key}", "tagging=")).body
    assert await changed() == {}
