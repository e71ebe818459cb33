"""Requests that somebody recorded, or a link that he was given: sent again, and sent with one thing changed.

What he may do is what was signed, within its time; everything else is refused, and nothing is written,
copied, tagged or deleted.
"""

# ruff: noqa: E501 -- tables of what is changed read best unbroken

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from support.store.s3_calls import KEY_ID, SECRET, S3Caller
from workers.store.wire.signing import Credentials, Signer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.real

BODY = b"what was signed"
_AGO_S = 16 * 60


@pytest.fixture
async def site(start, client):
    """A front whose bucket has a secret, and is read by who signs; and a check that all is as it was."""
    front = await start(bucket_settings={"access": "signed"})
    s3 = client(front)

    def put() -> None:
        s3.put_object(Bucket=front.bucket, Key="secret", Body=b"of somebody else", Tagging="a=b")
        s3.put_object(Bucket=front.bucket, Key="mine", Body=b"before", Tagging="a=b")

    await asyncio.to_thread(put)

    async def is_untouched() -> None:
        assert await front.stored("secret") == b"of somebody else"
        assert await front.stored("mine") == b"before"
        tags = await asyncio.to_thread(s3.get_object_tagging, Bucket=front.bucket, Key="mine")
        assert tags["TagSet"] == [{"Key": "a", "Value": "b"}]
        listed = await asyncio.to_thread(s3.list_objects_v2, Bucket=front.bucket)
        assert [one["Key"] for one in listed["Contents"]] == ["mine", "secret"]

    return front, is_untouched


#: What is added to a link, as a parameter or as a header.
PARAMETERS = (
    "x-amz-copy-source={source}", "X-Amz-Copy-Source={source}", "%78-amz-copy-source={source}", "X-Amz-Acl=public-read",
    "x-amz-tagging=c%3Dd", "X-Amz-Tagging=c%3Dd", "tagging", "%74agging", "tagging=", "acl", "%61cl", "retention",
    "legal-hold", "renameObject", "append", "restore", "attributes", "uploads", "%75ploads", "versionId=null",
    "%76ersionId=null", "response-content-type=text%2Fhtml", "%72esponse-content-type=text%2Fhtml", "whatever",
    "partNumber=1&uploadId=x", "%70artNumber=1&%75ploadId=x", "X-Amz-Expires=604800", "X-Amz-Date=20200101T000000Z",
    "X-Amz-Signature=00", "Expires=4000000000", "Signature=AA", "X-Amz-SignedHeaders=host%3Bx", "x-amz-expires=604800",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256", "AWSAccessKeyId=" + KEY_ID, "q-sign-algorithm=sha1", "OSSAccessKeyId=" + KEY_ID,
)  # fmt: skip
HEADERS = (
    ("x-amz-copy-source", "{source}"), ("X-AMZ-COPY-SOURCE", "{source}"), ("x-amz-tagging", "c=d"),
    ("x-amz-acl", "public-read"), ("x-amz-meta-a", "b"), ("x-amz-website-redirect-location", "/x"),
    ("x-amz-decoded-content-length", "3"), ("x-amz-rename-source", "{source}"), ("x-amz-storage-class", "GLACIER"),
    ("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'),
)  # fmt: skip


@pytest.mark.parametrize("version", ["s3", "s3v4"])
async def test_a_link_with_anything_added_is_refused_and_does_nothing(site, client, version):
    """A parameter or a header that says what is meant, in any spelling; or that is given twice."""
    front, is_untouched = site
    caller = S3Caller(port=front.port)
    source = f"/{front.bucket}/secret"
    s3 = client(front, signature_version=version)

    async def send(method: str, operation: str, more: str = "", **headers: str):
        url = urlsplit(s3.generate_presigned_url(operation, Params={"Bucket": front.bucket, "Key": "mine"}))
        query = f"{url.query}&{more}" if more else url.query
        sent = {"host": url.netloc, **headers}
        return await caller.send(method, url.path, query, sent, BODY if method == "PUT" else b"")

    for method, operation in (("PUT", "put_object"), ("GET", "get_object"), ("DELETE", "delete_object")):
        for added in PARAMETERS:
            reply = await send(method, operation, added.format(source=quote(source, safe="")))
            assert reply.status in {400, 403}, (method, added, reply.body)
            assert reply.code in {
                "SignatureDoesNotMatch", "AccessDenied", "InvalidArgument", "InvalidAccessKeyId",
            }, (method, added, reply.body)  # fmt: skip
            assert b"of somebody else" not in reply.body
        for name, value in HEADERS:
            reply = await send(method, operation, **{name: value.format(source=source)})
            assert reply.status == 403, (method, name, reply.body)
        for other in {"PUT", "GET", "DELETE", "POST"} - {method}:
            reply = await send(other, operation)
            assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch"), (method, other)
    await is_untouched()
    assert (await send("GET", "get_object")).body == b"before"
    assert (await send("PUT", "put_object")).status == 200
    assert (await send("DELETE", "delete_object")).status == 204


@pytest.mark.parametrize("version", ["s3", "s3v4"])
async def test_a_link_that_copies_copies_what_was_signed_and_nothing_else(site, client, version):
    """With version 2 the source stands in the query, with 4 it is a signed header beside it."""
    front, is_untouched = site
    s3, caller = client(front, signature_version=version), S3Caller(port=front.port)
    what = {"Bucket": front.bucket, "Key": "mine", "CopySource": f"{front.bucket}/mine"}
    url = urlsplit(s3.generate_presigned_url("copy_object", Params=what, HttpMethod="PUT"))
    name, mine, other = "x-amz-copy-source", f"{front.bucket}/mine", f"/{front.bucket}/secret"

    async def send(query: str, *headers: tuple[str, str]):
        return await caller.send("PUT", url.path, query, {"host": url.netloc, **dict(headers)}, b"")

    with_header = version == "s3v4"
    for query, headers in (
        (url.query, [(name, other)]),
        (url.query, [(name, f"{mine}?versionId=null")]),
        (url.query, [(name, mine), ("x-amz-metadata-directive", "REPLACE")]),
        (url.query, [(name, mine), ("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "c=d")]),
        (f"{url.query}&{name}={quote(other, safe='')}", [(name, mine)] if with_header else []),
        (f"{url.query}&X-Amz-Copy-Source={quote(other, safe='')}", [(name, mine)] if with_header else []),
        *([(url.query, [])] if with_header else []),  # a PUT of no bytes, which nobody signed
    ):
        reply = await send(query, *headers)
        assert reply.status == 403, (query, headers, reply.body)
        await is_untouched()
    # A copy onto itself is refused by S3 and its like, or changes nothing: what counts is that it is let through.
    reply = await send(url.query, *([(name, mine)] if with_header else []))
    assert reply.status in {200, 400}, reply.body
    await is_untouched()


#: One thing changed in a PUT whose headers are signed: (method, path, query, headers, body) -> the same, changed.
CHANGES: dict[str, Callable[..., tuple]] = {
    "method": lambda m, p, q, h, b: ("DELETE", p, q, h, b""),
    "a byte of the path": lambda m, p, q, h, b: (m, p.replace("/mine", "/minf"), q, h, b),
    "case of the path": lambda m, p, q, h, b: (m, p.replace("/mine", "/Mine"), q, h, b),
    "another slash": lambda m, p, q, h, b: (m, p.replace("/mine", "//mine"), q, h, b),
    "the key": lambda m, p, q, h, b: (m, p.replace("/mine", "/secret"), q, h, b),
    "a parameter's value": lambda m, p, q, h, b: (m, p, q.replace("=PutObject", "=PutObjecu"), h, b),
    "a parameter less": lambda m, p, q, h, b: (m, p, "", h, b),
    "a parameter more": lambda m, p, q, h, b: (m, p, q + "&tagging", h, b),
    "a sub-resource": lambda m, p, q, h, b: (m, p, q + "&acl", h, b),
    "a signed header": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-meta-a": "c"}, b),
    "case of a header": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-meta-a": "B"}, b),
    "a signed header less": lambda m, p, q, h, b: (
        m, p, q, {n: v for n, v in h.items() if n != "x-amz-meta-a"}, b
    ),
    "a header more": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-copy-source": "/x/secret"}, b),
    "a no-break space": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-meta-a": "b\xa0"}, b),
    "host": lambda m, p, q, h, b: (m, p, q, h | {"host": "other.example"}, b),
    "date": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-date": _later(h["x-amz-date"])}, b),
    "hash of the body": lambda m, p, q, h, b: (m, p, q, h | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, b),
    "a byte of the body": lambda m, p, q, h, b: (m, p, q, h, b[:-1] + b"?"),
    "the body's length": lambda m, p, q, h, b: (m, p, q, h, b + b"!"),
    "no body": lambda m, p, q, h, b: (m, p, q, h, b""),
    "region": lambda m, p, q, h, b: (m, p, q, _scope(h, "us-east-1", "eu-west-1"), b),
    "service": lambda m, p, q, h, b: (m, p, q, _scope(h, "/s3/", "/sqs/"), b),
    "day": lambda m, p, q, h, b: (m, p, q, _scope(h, f"/{h['x-amz-date'][:8]}/", "/20200101/"), b),
    "last word": lambda m, p, q, h, b: (m, p, q, _scope(h, "aws4_request", "aws4_requesu"), b),
    "key id": lambda m, p, q, h, b: (m, p, q, _scope(h, KEY_ID, "WRITER"), b),
    "list of signed headers": lambda m, p, q, h, b: (m, p, q, _scope(h, ";x-amz-meta-a", ""), b),
    "host not signed": lambda m, p, q, h, b: (m, p, q, _scope(h, "SignedHeaders=host;", "SignedHeaders="), b),
    "signature": lambda m, p, q, h, b: (m, p, q, h | {"authorization": h["authorization"][:-1] + "x"}, b),
    "signature cut": lambda m, p, q, h, b: (m, p, q, h | {"authorization": h["authorization"][:-1]}, b),
    "signed twice": lambda m, p, q, h, b: (m, p, q + "&X-Amz-Algorithm=AWS4-HMAC-SHA256", h, b),
}  # fmt: skip


def _later(stamp: str) -> str:
    return stamp[:-2] + ("0Z" if stamp[-2] != "0" else "1Z")


def _scope(headers: dict[str, str], old: str, new: str) -> dict[str, str]:
    assert old in headers["authorization"]
    return headers | {"authorization": headers["authorization"].replace(old, new)}


async def test_a_signed_request_with_one_thing_changed_is_refused_and_does_nothing(site, caller):
    front, is_untouched = site
    s3, path, query = caller(front), f"/{front.bucket}/mine", "x-id=PutObject"
    payload = hashlib.sha256(BODY).hexdigest()
    for what, change in CHANGES.items():
        headers = s3.signed("PUT", path, query, payload=payload, headers={"x-amz-meta-a": "b"})
        method, *rest = change("PUT", path, query, headers, BODY)
        assert [method, *rest] != ["PUT", path, query, headers, BODY], what
        reply = await s3.send(method, *rest)
        assert reply.status in {400, 403}, (what, reply.body)
        await is_untouched()
    headers = s3.signed("PUT", path, query, payload=payload, headers={"x-amz-meta-a": "b"})
    assert (await s3.send("PUT", path, query, headers, BODY)).status == 200


@pytest.mark.parametrize(("region", "service"), [("us-east-1", "sts"), ("us-east-1", "execute-api")])
async def test_a_signature_for_another_service_is_none_here(site, region, service):
    front, is_untouched = site
    s3 = S3Caller(port=front.port, signer=Signer(region, service=service))
    reply = await s3.call("PUT", f"/{front.bucket}/mine", body=BODY)
    assert (reply.status, reply.code) == (403, "AccessDenied")
    await is_untouched()


async def test_a_recorded_request_may_be_sent_again_within_its_time_and_not_after(start, caller):
    """As S3 has it: within 15 minutes it is the same request, which is why writes are signed over TLS."""
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/k"
    payload = "UNSIGNED-PAYLOAD"
    headers = s3.signed("PUT", path, payload=payload)
    for _ in range(2):
        assert (await s3.send("PUT", path, "", headers, BODY)).status == 200
    for ago in (_AGO_S, -_AGO_S):
        reply = await s3.call("PUT", path, body=b"late", now=time.time() - ago)
        assert (reply.status, reply.code) == (403, "RequestTimeTooSkewed")
    for ago in (14 * 60, -14 * 60):
        assert (await s3.call("PUT", path, body=BODY, now=time.time() - ago)).status == 200
    assert await front.stored("k") == BODY


async def test_a_link_is_good_until_it_expires_and_no_longer_than_a_week(start, caller):
    front = await start()
    s3, path, host = caller(front), f"/{front.bucket}/k", f"127.0.0.1:{front.port}"

    async def send(expires_s: int, *, ago: float = 0.0):
        who = Credentials(KEY_ID, SECRET)
        query = s3.signer.presign(who, "PUT", path, [], host=host, expires_s=expires_s, now=time.time() - ago)
        return await s3.send("PUT", path, query, {"host": host}, BODY)

    for _ in range(2):
        assert (await send(60)).status == 200
    assert (await send(120, ago=60)).status == 200
    assert (await send(60, ago=61)).code == "AccessDenied"
    assert (await send(60, ago=-_AGO_S)).code == "RequestTimeTooSkewed"
    assert (await send(0)).code == (await send(-5)).code == (await send(604_801)).code == "InvalidArgument"
    assert (await send(604_800, ago=604_700)).status == 200


async def test_a_header_that_was_signed_as_one_value_is_one_however_it_is_cut(start, client, caller):
    """Two headers are signed as `a,b`; joined with a blank they would name another source."""
    front = await start()
    s3, boto = caller(front), client(front)
    for key in ("a,b", "a, b"):
        await asyncio.to_thread(boto.put_object, Bucket=front.bucket, Key=key, Body=key.encode())
    path, source = f"/{front.bucket}/copy", f"/{front.bucket}/a,b"
    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD", headers={"x-amz-copy-source": source})
    cut = {**headers, "x-amz-copy-source": f"/{front.bucket}/a\r\nx-amz-copy-source: b"}
    assert (await s3.send("PUT", path, "", cut, b"")).status == 200
    assert await front.stored("copy") == b"a,b"


async def test_a_trailer_that_was_not_announced_or_is_no_header_goes_nowhere(start, caller):
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/k"
    for announced, trailer in (
        ("x-amz-checksum-crc32", b"x-amz-checksum-sha1:AAAA\r\n"),
        ("x-amz-checksum-other", b"x-amz-checksum-other:a\rx-amz-acl: public-read\r\n"),
        ("x-amz-checksum-other", b"x-amz-checksum-other:a\0\r\n"),
        ("", b"x-amz-checksum-crc32:AAAAAA==\r\n"),
    ):
        headers = {"x-amz-decoded-content-length": "5", "content-encoding": "aws-chunked"}
        if announced:
            headers["x-amz-trailer"] = announced
        reply = await s3.call(
            "PUT",
            path,
            body=b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n",
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers=headers,
        )
        assert (reply.status, reply.code) == (400, "MalformedTrailerError"), (trailer, reply.body)
    assert await front.stored("k") is None
