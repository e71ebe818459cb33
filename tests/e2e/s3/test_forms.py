"""Browser forms (presigned POST): what the policy permits is stored, everything else is refused by name."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import boto3
import httpx
import pytest
from botocore.config import Config

from scheduler.front.s3.form.storing import PIECE_BYTES
from support.gateway import until
from support.store.s3_calls import KEY_ID, SECRET

pytestmark = pytest.mark.real
BODY = b"what a browser brings\r\n--not-a-boundary\r\n" * 50


def post(url, fields, body=BODY, *, filename="photo.jpg", files=None, headers=None):
    """As a browser does it: the fields in order, then the file."""
    files = {"file": (filename, body)} if files is None else files
    with httpx.Client(trust_env=False, timeout=30) as http:
        return http.post(url, data=fields, files=files, headers=headers)


def code_of(reply):
    return ET.fromstring(reply.content).findtext("Code")


def message_of(reply):
    return ET.fromstring(reply.content).findtext("Message")


def signed(policy, **fields):
    """A form of version 2, whose policy is written by hand."""
    text = policy if isinstance(policy, str) else json.dumps(policy)
    encoded = base64.b64encode(text.encode()).decode()
    signature = hmac.digest(SECRET.encode(), encoded.encode(), hashlib.sha1)
    return {
        "AWSAccessKeyId": KEY_ID,
        "policy": encoded,
        "signature": base64.b64encode(signature).decode(),
        **fields,
    }


def policy_of(bucket, *conditions, hours=1.0):
    expires = datetime.now(UTC) + timedelta(hours=hours)
    return {
        "expiration": expires.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "conditions": [{"bucket": bucket}, ["starts-with", "$key", ""], *conditions],
    }


@pytest.fixture
def through(start):
    """Start a gateway; then post a form of version 2 to it: `await through(policy, key=…)`."""

    async def begin(*rules):
        front = await start(*rules)

        async def send(policy=None, body=BODY, *, filename="photo.jpg", files=None, headers=None, **fields):
            chosen = policy_of(front.bucket) if policy is None else policy
            form = signed(chosen, **fields)
            return await asyncio.to_thread(
                post, str(front.url("")), form, body, filename=filename, files=files, headers=headers
            )

        return front, send

    return begin


@pytest.mark.parametrize("version", ["s3", "s3v4"])
async def test_what_boto3_presigns_is_taken_as_the_store_itself_takes_it(
    start, client, seaweed, bucket, version
):
    front = await start()
    store = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key_id,
        aws_secret_access_key=seaweed.secret_access_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, signature_version=version),
    )

    def calls(s3):
        fields = {"Content-Type": "image/jpeg", "x-amz-meta-who": "me", "success_action_status": "201"}
        conditions = [
            ["starts-with", "$Content-Type", "image/"],
            {"x-amz-meta-who": "me"},
            {"success_action_status": "201"},
            ["content-length-range", 1, 10_000],
        ]
        form = s3.generate_presigned_post(
            bucket, "up/${filename}", Fields=fields, Conditions=conditions, ExpiresIn=60
        )
        reply = post(form["url"], form["fields"])
        head = s3.head_object(Bucket=bucket, Key="up/photo.jpg")
        assert s3.get_object(Bucket=bucket, Key="up/photo.jpg")["Body"].read() == BODY
        found = {part.tag: part.text for part in ET.fromstring(reply.content)}
        return (
            reply.status_code,
            {name: found.get(name) for name in ("Bucket", "Key", "ETag")},
            head["ContentType"],
            head["Metadata"],
            head["ETag"],
        )

    through_it = await asyncio.to_thread(calls, client(front, signature_version=version))
    etag = f'"{hashlib.md5(BODY).hexdigest()}"'
    answer = {"Bucket": bucket, "Key": "up/photo.jpg", "ETag": etag}
    assert through_it == (201, answer, "image/jpeg", {"who": "me"}, etag)
    directly = await asyncio.to_thread(calls, store)
    assert directly[2:] == through_it[2:]
    store.close()


async def test_the_answer_is_what_the_form_asks_for(through):
    front, send = await through()
    action = ["starts-with", "$success_action_status", ""]
    for asked, status in (("200", 200), ("204", 204), ("404", 204), ("201", 201)):
        reply = await send(policy_of(front.bucket, action), key="k", success_action_status=asked)
        assert (reply.status_code, bool(reply.content)) == (status, status == 201), asked
        assert reply.headers["location"] == f"http://127.0.0.1:{front.port}/{front.bucket}/k"
        assert reply.headers["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    redirect = ["starts-with", "$success_action_redirect", "http://site"]
    page = "http://site.example/done?lang=en"
    reply = await send(policy_of(front.bucket, redirect), key="a b", success_action_redirect=page)
    etag = hashlib.md5(BODY).hexdigest()
    assert reply.status_code == 303
    assert reply.headers["location"] == f"{page}&bucket={front.bucket}&key=a%20b&etag=%22{etag}%22"
    reply = await send(policy_of(front.bucket, ["eq", "$redirect", "/x"]), key="k", redirect="/x")
    assert reply.status_code == 204


async def test_what_the_policy_does_not_permit_is_403_and_says_why(through):
    front, send = await through()
    private = 'Policy Condition failed: ["eq", "$acl", "private"]'
    failed = "Policy Condition failed"
    for conditions, fields, said in (
        ([{"acl": "private"}], {}, private),
        ([{"acl": "private"}], {"acl": "public-read"}, private),
        ([], {"acl": "private"}, "Extra input fields: acl"),
        ([], {"x-amz-meta-who": "me"}, "Extra input fields: x-amz-meta-who"),
        ([["starts-with", "$x-amz-meta-a", "b"]], {"x-amz-meta-a": "cb"}, failed),
        ([["starts-with", "$Content-Type", "image/"]], {"Content-Type": "image/png,text/html"}, failed),
        ([["starts-with", "$key", "mine/"]], {}, failed),
        ([["starts-with", "$bucket", ""]], {"bucket": "another"}, "The field 'bucket' is not the bucket"),
        ([{"bucket": "another"}], {}, failed),
    ):
        reply = await send(policy_of(front.bucket, *conditions), key="k", **fields)
        assert (reply.status_code, code_of(reply)) == (403, "AccessDenied"), conditions
        assert message_of(reply).startswith(f"Invalid according to Policy: {said}"), conditions
    assert await front.stored("k") is None


async def test_a_policy_that_does_not_name_the_bucket_or_is_over_permits_nothing(through):
    front, send = await through()
    open_policy = policy_of(front.bucket)
    del open_policy["conditions"][0]
    reply = await send(open_policy, key="k")
    assert (reply.status_code, message_of(reply)) == (
        403,
        "Invalid according to Policy: Extra input fields: bucket",
    )
    reply = await send(policy_of(front.bucket, hours=-0.01), key="k")
    assert (reply.status_code, message_of(reply)) == (403, "Invalid according to Policy: Policy expired.")


async def test_fields_to_be_ignored_and_those_behind_the_file_need_no_condition(through):
    front, send = await through()
    assert (await send(key="k", **{"x-ignore-me": "1"})).status_code == 204
    files = [("file", ("f", BODY)), ("submit", (None, "Upload"))]
    assert (await send(key="after", files=files)).status_code == 204
    assert await front.stored("after") == BODY


async def test_a_policy_that_cannot_be_read_is_400(through):
    _, send = await through()
    until_2099 = {"expiration": "2099-01-01T00:00:00Z"}
    for policy in (
        "no json",
        "[]",
        {"conditions": []},
        until_2099,
        {"EXPIRATION": "2099-01-01T00:00:00Z", "conditions": []},
        {"expiration": 4070908800, "conditions": []},
        {**until_2099, "conditions": [{}]},
        {**until_2099, "conditions": [["content-length-range", 0]]},
        {**until_2099, "conditions": [["content-length-range", -1, 0]]},
        {**until_2099, "conditions": [["ends-with", "$key", "x"]]},
        {**until_2099, "conditions": [["eq", "key", "x"]]},
    ):
        reply = await send(policy, key="k")
        assert (reply.status_code, code_of(reply)) == (400, "InvalidPolicyDocument"), policy


async def test_the_size_is_what_the_policy_permits_or_nothing_is_stored(through, client):
    front, send = await through()
    s3 = client(front)
    for n, (size, low, high, code) in enumerate(
        (
            (100, 0, 99, "EntityTooLarge"),
            (100, 101, 200, "EntityTooSmall"),
            (100, 100, 100, None),
            (0, 0, 0, None),
            (PIECE_BYTES + 1, 0, PIECE_BYTES, "EntityTooLarge"),
            (2 * PIECE_BYTES + 5, 3 * PIECE_BYTES, 4 * PIECE_BYTES, "EntityTooSmall"),
            (2 * PIECE_BYTES + 5, 0, 2 * PIECE_BYTES + 5, None),
            (PIECE_BYTES, 0, PIECE_BYTES, None),
        )
    ):
        body = os.urandom(size)
        policy = policy_of(front.bucket, ["content-length-range", low, high])
        reply = await send(policy, body, key=f"k{n}")
        if code is None:
            assert (reply.status_code, await front.stored(f"k{n}")) == (204, body), size
        else:
            assert (reply.status_code, code_of(reply)) == (400, code), size
            assert await front.stored(f"k{n}") is None
        uploads = await asyncio.to_thread(s3.list_multipart_uploads, Bucket=front.bucket)
        assert uploads.get("Uploads", []) == [], size


@pytest.mark.parametrize("size", [1000, PIECE_BYTES + 1000])
async def test_a_checksum_among_the_fields_is_that_of_the_file_or_nothing_is_stored(through, size):
    front, send = await through()
    body = os.urandom(size)
    policy = policy_of(front.bucket, ["starts-with", "$x-amz-checksum-sha256", ""])
    right = base64.b64encode(hashlib.sha256(body).digest()).decode()
    reply = await send(policy, body[:-1] + b"", key="k", **{"x-amz-checksum-sha256": right})
    assert (reply.status_code, code_of(reply)) == (400, "BadDigest")
    assert await front.stored("k") is None
    assert (await send(policy, body, key="k", **{"x-amz-checksum-sha256": right})).status_code == 204
    assert await front.stored("k") == body


async def test_who_signed_decides_and_nobody_writes_without_a_signature(start, client):
    front = await start()
    url = str(front.url(""))

    def calls():
        form = client(front).generate_presigned_post(front.bucket, "k", ExpiresIn=60)
        wrong = {**form["fields"], "signature": "AAAA"}
        wrong = {name: "0" * 64 if name == "x-amz-signature" else value for name, value in wrong.items()}
        for fields, status, code in (
            (wrong, 403, "SignatureDoesNotMatch"),
            ({**signed(policy_of(front.bucket)), "AWSAccessKeyId": "NOBODY", "key": "k"}, 403, None),
            ({"key": "k"}, 403, "AccessDenied"),
            ({"key": "k", "policy": "e30="}, 400, "InvalidArgument"),
            (signed(policy_of(front.bucket)), 400, "InvalidArgument"),
        ):
            reply = post(url, fields)
            assert (reply.status_code, code_of(reply)) == (status, code or "InvalidAccessKeyId")
        for key_id, said in (("READER", "'write'"), ("OTHER", f"not for the bucket {front.bucket!r}")):
            form = client(front, key_id).generate_presigned_post(front.bucket, "k", ExpiresIn=60)
            reply = post(url, form["fields"])
            assert (reply.status_code, code_of(reply)) == (403, "AccessDenied")
            assert said in message_of(reply)
        form = client(front, "WRITER").generate_presigned_post(front.bucket, "k", ExpiresIn=60)
        assert post(url, form["fields"]).status_code == 204

    await asyncio.to_thread(calls)


async def test_keys_of_ferrymans_own_copies_and_broken_fields_are_refused(through):
    front, send = await through()
    reply = await send(key=".ferryman/x")
    assert (reply.status_code, code_of(reply)) == (403, "AccessDenied")
    source = ["starts-with", "$x-amz-copy-source", ""]
    reply = await send(policy_of(front.bucket, source), key="k", **{"x-amz-copy-source": "/a/b"})
    assert (reply.status_code, code_of(reply)) == (400, "InvalidArgument")
    meta = ["starts-with", "$x-amz-meta-a", ""]
    reply = await send(policy_of(front.bucket, meta), key="k", **{"x-amz-meta-a": "a\r\nx-amz-acl: b"})
    assert (reply.status_code, code_of(reply)) == (400, "InvalidArgument")
    reply = await send(key="k" * 1025)
    assert (reply.status_code, code_of(reply)) == (400, "KeyTooLongError")
    reply = await send(policy_of(front.bucket, meta), key="k", **{"x-amz-meta-a": "a" * 21_000})
    assert (reply.status_code, code_of(reply)) == (400, "MaxPostPreDataLengthExceededError")
    reply = await send(key="k", files={"other": ("f", b"")})
    assert (reply.status_code, code_of(reply)) == (400, "IncorrectNumberOfFilesInPostRequest")
    assert await front.stored("k") is None


async def test_a_body_that_is_no_form_is_400(start):
    front = await start()
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    nested = b"--b\r\ncontent-type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nk\r\n--c--\r\n--b--\r\n"
    for body, code in (
        (b"", "MalformedPOSTRequest"),
        (b"no boundary at all\r\n", "MalformedPOSTRequest"),
        (b"--b\r\ncontent-disposition: form-data; name=key\r\n\r\nk", "MalformedPOSTRequest"),
        (b"--b\r\ncontent-disposition: form-data\r\n\r\nk\r\n--b--\r\n", "MalformedPOSTRequest"),
        (nested, "MalformedPOSTRequest"),
        (b"--b\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", "MalformedPOSTRequest"),
        (b"x" * 200_000, "MalformedPOSTRequest"),
        (b"--b--\r\n", "IncorrectNumberOfFilesInPostRequest"),
    ):
        reply = await front.request("POST", "", head, data=body)
        assert (reply.status, f"<Code>{code}<" in reply.text) == (400, True), (body[:80], reply.body)
    for wrong in ("multipart/form-data", f"multipart/form-data; boundary={'b' * 300}"):
        reply = await front.request("POST", "", {"Content-Type": wrong}, data=b"--b--")
        assert (reply.status, "MalformedPOSTRequest" in reply.text) == (400, True), wrong


@pytest.mark.parametrize("size", [300_000, PIECE_BYTES + 300_000])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(start, client, size):
    front = await start()
    lines = [
        f"--b\r\ncontent-disposition: form-data; name={name}\r\n\r\n{value}\r\n"
        for name, value in signed(policy_of(front.bucket), key="k").items()
    ]
    lines.append("--b\r\ncontent-disposition: form-data; name=file; filename=f\r\n\r\n")
    head = (
        f"POST /{front.bucket} HTTP/1.1\r\nHost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
        f"content-length: {3 * size}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write((head + "".join(lines)).encode() + b"x" * size)
    await writer.drain()
    s3 = client(front)
    if size > PIECE_BYTES:

        async def begun():
            found = await asyncio.to_thread(s3.list_multipart_uploads, Bucket=front.bucket)
            return found.get("Uploads")

        await until(begun)
    writer.transport.abort()

    async def none_left():
        found = await asyncio.to_thread(s3.list_multipart_uploads, Bucket=front.bucket)
        return not found.get("Uploads")

    await until(none_left)
    assert await front.stored("k") is None


async def test_tags_metadata_beyond_ascii_and_the_type_of_a_form_reach_the_object(through, client):
    front, send = await through()
    tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>c&amp;d</Value></Tag></TagSet></Tagging>"
    policy = policy_of(
        front.bucket,
        {"tagging": tagging},
        ["starts-with", "$x-amz-meta-name", ""],
        {"Cache-Control": "no-store"},
    )
    more = {"tagging": tagging, "x-amz-meta-name": "Grüße", "Cache-Control": "no-store"}
    assert (await send(policy, key="k", **more)).status_code == 204
    s3 = client(front)
    tags = await asyncio.to_thread(s3.get_object_tagging, Bucket=front.bucket, Key="k")
    assert tags["TagSet"] == [{"Key": "a b", "Value": "c&d"}]
    head = await asyncio.to_thread(s3.head_object, Bucket=front.bucket, Key="k")
    assert head["CacheControl"] == "no-store"
    assert head["ContentType"] == "binary/octet-stream"
    assert list(head["Metadata"]) == ["name"]


async def test_a_form_lifts_the_tombstone_of_its_key(through, client, chaos):
    chaos.put("/k", b"of the origin")
    rule = {
        "name": "r",
        "type": "mirror",
        "request": {"protocol": "http"},
        "origin": {"hosts": [{"host": chaos.host}]},
    }
    front, send = await through(rule)
    s3 = client(front)
    await asyncio.to_thread(s3.delete_object, Bucket=front.bucket, Key="k")
    claims = front.services.ledger.claims
    assert await claims.tombstone(front.bucket, "k") is not None
    too_large = policy_of(front.bucket, ["content-length-range", 0, 1])
    assert (await send(too_large, key="k")).status_code == 400
    assert await claims.tombstone(front.bucket, "k") is not None
    assert (await send(key="k")).status_code == 204
    assert await claims.tombstone(front.bucket, "k") is None
    assert await front.stored("k") == BODY


async def test_a_page_of_another_site_reads_the_answer_as_the_stores_cors_rules_say(through, client):
    front, send = await through()
    rules = {
        "CORSRules": [
            {"AllowedMethods": ["POST"], "AllowedOrigins": ["http://site.example"], "ExposeHeaders": ["ETag"]}
        ]
    }
    await asyncio.to_thread(client(front).put_bucket_cors, Bucket=front.bucket, CORSConfiguration=rules)

    async def allowed():
        reply = await send(key="k", headers={"Origin": "http://site.example"})
        assert reply.status_code == 204
        return reply.headers.get("access-control-allow-origin") == "http://site.example"

    await until(allowed)
    reply = await send(key="k", headers={"Origin": "http://other.example"})
    assert "access-control-allow-origin" not in reply.headers


async def test_what_is_odd_in_a_form_is_neither_printed_nor_remembered(start, bucket, recwarn):
    front = await start()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for number in range(5):
            part = f'--x\r\nContent-Disposition: form-data; name="key"; odd {number}; "\r\n\r\na\r\n--x--\r\n'
            reply = await http.post(
                f"http://127.0.0.1:{front.port}/{bucket}",
                content=part.encode(),
                headers={"content-type": "multipart/form-data; boundary=x"},
            )
            assert reply.status_code == 400
    assert [str(one.message) for one in recwarn if "ContentDisposition" in one.category.__name__] == []
