"""S3 clients write, list, copy and delete through the gateway; the store answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
import zlib

import botocore.exceptions
import pytest
import requests
from boto3.s3.transfer import TransferConfig

from support.s3_calls import KEY_ID, SECRET
from workers.store.wire.signing import Credentials

pytestmark = pytest.mark.real
BODY = b"written by a client"


def refusal(call, *args, **kwargs):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **kwargs)
    error = caught.value.response
    return (
        error["ResponseMetadata"]["HTTPStatusCode"],
        error["Error"]["Code"],
        error["Error"].get("Message", ""),
    )


async def test_boto3_writes_reads_lists_copies_tags_and_deletes(start, client):
    front = await start()
    s3, bucket = client(front), front.bucket

    def calls():
        s3.head_bucket(Bucket=bucket)
        assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
        s3.get_bucket_location(Bucket=bucket)
        key = "dir/a b+c/100% é中.txt"
        put = s3.put_object(Bucket=bucket, Key=key, Body=BODY, ContentType="text/x", Metadata={"who": "me"})
        assert put["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
        got = s3.get_object(Bucket=bucket, Key=key)
        assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (BODY, "text/x", {"who": "me"})
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(BODY)
        assert s3.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")["Body"].read() == BODY[1:4]
        s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
        assert s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == [{"Key": "k", "Value": "v"}]
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == BODY
        for version in ("list_objects", "list_objects_v2"):
            listed = getattr(s3, version)(Bucket=bucket)
            assert [one["Key"] for one in listed["Contents"]] == ["copy", key]
        assert [p["Prefix"] for p in s3.list_objects_v2(Bucket=bucket, Delimiter="/")["CommonPrefixes"]] == [
            "dir/"
        ]
        s3.put_object(Bucket=bucket, Key="third", Body=b"")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
        assert len([one for page in pages for one in page.get("Contents", [])]) == 3
        s3.delete_object(Bucket=bucket, Key="third")
        deleted = s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}, {"Key": "never"}]}
        )
        assert len(deleted["Deleted"]) == 3
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        assert refusal(s3.get_object, Bucket=bucket, Key=key)[:2] == (404, "NoSuchKey")

    await asyncio.to_thread(calls)


async def test_the_transfer_manager_moves_20_mib_in_parts_both_ways(start, client, tmp_path):
    front = await start()
    s3 = client(front)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(20 * 1024 * 1024 + 17))
    config = TransferConfig(multipart_threshold=5 * 1024 * 1024, multipart_chunksize=5 * 1024 * 1024)

    def calls():
        s3.upload_file(str(source), front.bucket, "large", Config=config)
        s3.download_file(front.bucket, "large", str(back), Config=config)
        s3.upload_file(str(source), front.bucket, "one", Config=TransferConfig(multipart_threshold=1 << 30))
        assert s3.get_object(Bucket=front.bucket, Key="one")["Body"].read() == source.read_bytes()
        begun = s3.create_multipart_upload(Bucket=front.bucket, Key="left")
        assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=front.bucket)["Uploads"]] == ["left"]
        s3.abort_multipart_upload(Bucket=front.bucket, Key="left", UploadId=begun["UploadId"])

    await asyncio.to_thread(calls)
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
async def test_every_checksum_algorithm_of_boto3_is_taken(start, client, algorithm):
    front = await start()
    s3 = client(front)
    for size in (10, 300_000):
        body = os.urandom(size)
        await asyncio.to_thread(
            s3.put_object, Bucket=front.bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm
        )
        assert await front.stored("k") == body


async def test_presigned_links_read_and_write_in_both_versions(start, client):
    front = await start()

    def calls():
        for version in ("s3", "s3v4"):
            s3 = client(front, signature_version=version)
            where = {"Bucket": front.bucket, "Key": f"presigned {version}"}
            put = s3.generate_presigned_url("put_object", Params=where)
            assert requests.put(put, data=BODY, timeout=10).status_code == 200
            get = s3.generate_presigned_url("get_object", Params=where)
            assert requests.get(get, timeout=10).content == BODY

    await asyncio.to_thread(calls)


async def test_headers_that_a_presigned_link_carries_in_its_query_reach_the_store(start, caller):
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/k"
    params = [("x-amz-meta-who", "me"), ("x-amz-checksum-crc32", "AAAAAA==")]
    query = s3.signer.presign(
        Credentials(KEY_ID, SECRET),
        "PUT",
        path,
        params,
        host=f"127.0.0.1:{front.port}",
        expires_s=60,
        now=time.time(),
    )
    reply = await s3.send("PUT", path, query, {"host": f"127.0.0.1:{front.port}"}, BODY)
    assert reply.code == "BadDigest"  # the checksum is that of no bytes
    reply = await s3.send("PUT", path, query, {"host": f"127.0.0.1:{front.port}"}, b"")
    assert reply.status == 200, reply.body
    found = await front.services.store.head(front.bucket, "k")
    assert found.user_meta == {"who": "me"}


async def test_metadata_beyond_ascii_arrives_as_it_was_sent(start, caller):
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/k"
    name = "é中".encode().decode("latin-1")
    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD", headers={"x-amz-meta-n": "é中"})
    reply = await s3.send("PUT", path, "", {**headers, "x-amz-meta-n": name}, b"")
    assert reply.status == 200, reply.body
    got = await s3.call("GET", path)
    assert got.headers["x-amz-meta-n"] == name


async def test_a_presigned_put_cannot_be_turned_into_a_copy(start, client):
    front = await start()
    s3 = client(front, signature_version="s3v4")

    def calls():
        s3.put_object(Bucket=front.bucket, Key="secret", Body=BODY)
        put = s3.generate_presigned_url("put_object", Params={"Bucket": front.bucket, "Key": "mine"})
        answer = requests.put(put, headers={"x-amz-copy-source": f"/{front.bucket}/secret"}, timeout=10)
        assert (answer.status_code, "x-amz-copy-source is not signed" in answer.text) == (403, True)

    await asyncio.to_thread(calls)
    assert await front.stored("mine") is None


# ---------------------------------------------------------------- what a key may


async def test_a_missing_permission_is_named(start, client, bucket):
    front = await start()

    def calls():
        reader, writer, other = (client(front, name) for name in ("READER", "WRITER", "OTHER"))
        for call, more, lacks in (
            (reader.put_object, {"Key": "k", "Body": b""}, "write"),
            (reader.list_objects_v2, {}, "list"),
            (reader.delete_object, {"Key": "k"}, "delete"),
            (reader.get_bucket_policy, {}, "manage"),
            (writer.get_object, {"Key": "k"}, "read"),
            (writer.copy_object, {"Key": "k", "CopySource": f"{bucket}/x"}, "read"),
            (writer.delete_objects, {"Delete": {"Objects": [{"Key": "k"}]}}, "delete"),
            (writer.put_object_acl, {"Key": "k", "ACL": "public-read"}, "manage"),
        ):
            status, code, message = refusal(call, Bucket=front.bucket, **more)
            assert (status, code) == (403, "AccessDenied")
            assert f"'{lacks}'" in message
        status, code, message = refusal(other.get_object, Bucket=front.bucket, Key="k")
        assert (status, code, front.bucket in message) == (403, "AccessDenied", True)
        assert refusal(writer.put_object, Bucket="not-configured", Key="k", Body=b"")[:2] == (
            403,
            "AccessDenied",
        )

    await asyncio.to_thread(calls)


async def test_a_key_that_may_manage_makes_and_removes_buckets_that_the_configuration_does_not_name(
    start, client
):
    front = await start()
    s3 = client(front)
    name = f"made-{os.urandom(4).hex()}"

    def calls():
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="k", Body=BODY)
        assert s3.get_object(Bucket=name, Key="k")["Body"].read() == BODY
        assert name in [b["Name"] for b in s3.list_buckets()["Buckets"]]
        assert name not in [b["Name"] for b in client(front, "WRITER").list_buckets()["Buckets"]]
        s3.delete_object(Bucket=name, Key="k")
        s3.delete_bucket(Bucket=name)

    await asyncio.to_thread(calls)


async def test_a_sub_resource_is_never_taken_for_a_read_of_the_object(start, caller):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    assert (await s3.call("PUT", path, body=BODY)).status == 200
    for query in ("tagging=", "attributes=", "%61cl="):
        assert (await s3.call("GET", path, query)).body != BODY, query
    s3.key_id, s3.secret = "READER", "reader-secret"
    refused = await s3.call("GET", path, "unheard-of=")
    assert (refused.status, refused.code) == (403, "AccessDenied")


async def test_an_unknown_key_and_a_wrong_secret_are_told_apart(start, caller):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    assert (await s3.call("PUT", path, body=BODY, now=0)).code == "RequestTimeTooSkewed"
    s3.secret = "wrong"
    assert (await s3.call("PUT", path, body=BODY)).code == "SignatureDoesNotMatch"
    s3.key_id = "NOBODY"
    refused = await s3.call("PUT", path, body=BODY)
    assert (refused.status, refused.code) == (403, "InvalidAccessKeyId")
    assert await front.stored("k") is None


async def test_an_unsigned_client_of_a_public_bucket_has_the_web_front(start):
    front = await start()
    assert (await front.request("PUT", "/k", data=BODY)).status == 405
    assert (await front.get("/k?acl")).status == 404


async def test_keys_of_ferrymans_own_are_refused_and_not_listed(start, client):
    front = await start()
    s3, bucket = client(front), front.bucket
    await front.services.store.put_small(bucket, ".ferryman/r.json", b"{}", content_type="application/json")
    await front.services.store.put_small(bucket, "mine", b"x", content_type="text/plain")

    def calls():
        for call, more in (
            (s3.put_object, {"Key": ".ferryman/x", "Body": b""}),
            (s3.delete_object, {"Key": ".ferryman/r.json"}),
            (s3.delete_objects, {"Delete": {"Objects": [{"Key": "mine"}, {"Key": ".ferryman/r.json"}]}}),
            (s3.copy_object, {"Key": "k", "CopySource": f"{bucket}/.ferryman/r.json"}),
            (s3.create_multipart_upload, {"Key": "/.ferryman/x"}),
        ):
            assert refusal(call, Bucket=bucket, **more)[:2] == (403, "AccessDenied")
        assert refusal(s3.get_object, Bucket=bucket, Key=".ferryman/r.json")[:2] == (404, "NoSuchKey")
        for version in ("list_objects", "list_objects_v2"):
            list_objects = getattr(s3, version)
            assert [one["Key"] for one in list_objects(Bucket=bucket)["Contents"]] == ["mine"]
            assert "CommonPrefixes" not in list_objects(Bucket=bucket, Delimiter="/")
            assert "Contents" not in list_objects(Bucket=bucket, Prefix=".ferryman/")
        # One key a page: clients of version 1 go on behind the last key that they are told.
        pages = s3.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
        assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ["mine"]

    await asyncio.to_thread(calls)


async def test_a_browsers_preflight_is_answered_by_the_stores_cors_rules(start, client, seaweed):
    front = await start()
    rules = [{"AllowedMethods": ["PUT"], "AllowedOrigins": ["https://shop.example"], "MaxAgeSeconds": 60}]
    await asyncio.to_thread(
        client(front).put_bucket_cors, Bucket=front.bucket, CORSConfiguration={"CORSRules": rules}
    )
    for origin, method in (
        ("https://shop.example", "PUT"),
        ("https://shop.example", "DELETE"),
        ("https://evil.example", "PUT"),
    ):
        asked = {"Origin": origin, "Access-Control-Request-Method": method}
        through = await front.request("OPTIONS", "/k", asked)
        url = f"{seaweed.endpoint}/{front.bucket}/k"
        direct = await asyncio.to_thread(requests.options, url, headers=asked, timeout=10)
        wanted = {n.lower(): v for n, v in direct.headers.items() if n.lower().startswith("access-control-")}
        assert through.status == direct.status_code
        assert {n: v for n, v in through.headers.items() if n.startswith("access-control-")} == wanted
    asked["Origin"] = "https://shop.example"
    assert (await front.request("OPTIONS", "/k", asked)).headers["access-control-allow-origin"] == asked[
        "Origin"
    ]
    assert (await front.request("OPTIONS", "/k")).status == 405
    assert (await front.request("OPTIONS", "/k", asked, bucket="nobody")).status == 405


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_chunk_signed_body_arrives_without_its_framing(start, caller, size):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    chunks = [os.urandom(size), os.urandom(size // 2)]
    body = b"".join(chunks)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    for trailer in (None, ("x-amz-checksum-crc32", crc)):
        headers, sent = s3.chunked(path, chunks, trailer=trailer, headers={"content-type": "text/x"})
        reply = await s3.send("PUT", path, "", headers, sent)
        assert reply.status == 200, reply.body
        assert await front.stored("k") == body
        found = await front.services.store.head(front.bucket, "k")
        assert "content-encoding" not in {name.lower() for name, _ in found.headers}


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_wrong_body_is_refused_by_name_and_nothing_is_stored(start, caller, size):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    body = os.urandom(size)
    wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    wrong_crc = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()

    async def replies():
        yield "XAmzContentSHA256Mismatch", await s3.call("PUT", path, body=body, payload="0" * 64)
        yield "BadDigest", await s3.call("PUT", path, body=body, headers={"content-md5": wrong_md5})
        yield "InvalidDigest", await s3.call("PUT", path, body=body, headers={"content-md5": "x"})
        unsigned = "UNSIGNED-PAYLOAD"
        crc = {"x-amz-checksum-crc32": wrong_crc}
        yield "BadDigest", await s3.call("PUT", path, body=body, payload=unsigned, headers=crc)
        for wrong in (0, 1, 2, -1):
            headers, sent = s3.chunked(
                path,
                [body, body],
                trailer=(
                    "x-amz-checksum-crc32",
                    base64.b64encode(zlib.crc32(body + body).to_bytes(4, "big")).decode(),
                ),
                wrong=wrong,
            )
            yield "SignatureDoesNotMatch", await s3.send("PUT", path, "", headers, sent)
        headers, sent = s3.chunked(path, [body], trailer=("x-amz-checksum-crc32", wrong_crc))
        yield "BadDigest", await s3.send("PUT", path, "", headers, sent)
        for promised in (size - 1, size + 1):
            headers, sent = s3.chunked(path, [body], headers={"x-amz-decoded-content-length": str(promised)})
            yield "IncompleteBody", await s3.send("PUT", path, "", headers, sent)
        headers, sent = s3.chunked(path, [body])
        yield "IncompleteBody", await s3.send("PUT", path, "", headers, sent[: -len(body) // 2])
        trailing = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(size)}
        for value, code in ((wrong_crc, "BadDigest"), (None, "MalformedTrailerError")):
            sent = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n"
            sent += f"x-amz-checksum-crc32:{value}\r\n\r\n".encode() if value else b"\r\n"
            yield (
                code,
                await s3.call(
                    "PUT", path, body=sent, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers=trailing
                ),
            )

    async for code, reply in replies():
        assert reply.code == code, reply.body
        assert await front.stored("k") is None, code


async def test_an_unsigned_trailer_is_verified_and_taken(start, caller):
    front = await start()
    s3 = caller(front)
    for size in (0, 10, 400_000):
        body = os.urandom(size)
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        sent = (f"{size:x}\r\n".encode() + body + b"\r\n" if size else b"") + b"0\r\n"
        sent += f"x-amz-checksum-crc32:{crc}\r\n\r\n".encode()
        reply = await s3.call(
            "PUT",
            f"/{front.bucket}/k",
            body=sent,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={
                "content-encoding": "aws-chunked",
                "x-amz-sdk-checksum-algorithm": "CRC32",
                "x-amz-trailer": "x-amz-checksum-crc32",
                "x-amz-decoded-content-length": str(size),
            },
        )
        assert reply.status == 200, reply.body
        assert await front.stored("k") == body


async def test_a_wrong_part_leaves_no_part(start, caller, client):
    front = await start()
    s3, boto = caller(front), client(front)
    begun = await asyncio.to_thread(boto.create_multipart_upload, Bucket=front.bucket, Key="k")
    query = f"partNumber=1&uploadId={begun['UploadId']}"
    body = os.urandom(300_000)
    reply = await s3.call("PUT", f"/{front.bucket}/k", query, body=body, payload="0" * 64)
    assert reply.code == "XAmzContentSHA256Mismatch"
    parts = await asyncio.to_thread(boto.list_parts, Bucket=front.bucket, Key="k", UploadId=begun["UploadId"])
    assert not parts.get("Parts")


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(start, caller):
    front = await start()
    s3 = caller(front)
    reply = await s3.call(
        "PUT", f"/{front.bucket}/k", body=os.urandom(200_000), payload="UNSIGNED-PAYLOAD", length=900_000
    )
    assert reply.status in {0, 400}
    assert await front.stored("k") is None


async def test_a_client_that_stalls_in_mid_upload_is_ended(start, caller):
    front = await start(gateway={"client_stall_s": 0.3})
    s3 = caller(front)
    path = f"/{front.bucket}/k"
    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD")
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "content-length: 900000"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + os.urandom(200_000))
    async with asyncio.timeout(10):
        data = await reader.read()
    writer.close()
    assert b"<Code>RequestTimeout</Code>" in data
    assert await front.stored("k") is None


async def test_100_continue_is_said_only_to_who_may_write(start, caller):
    front = await start()
    path = f"/{front.bucket}/k"
    for key_id, secret, first in (
        ("CLIENT-KEY", "client-secret", b"HTTP/1.1 100 Continue"),
        ("READER", "reader-secret", b"HTTP/1.1 403"),
    ):
        s3 = caller(front)
        s3.key_id, s3.secret = key_id, secret
        headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD", headers={"expect": "100-continue"})
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        lines = [f"PUT {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "content-length: 5"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(first)
        writer.close()


async def test_a_document_of_100_mb_is_refused_before_it_is_read(start, caller):
    front = await start()
    s3 = caller(front)
    path = f"/{front.bucket}"
    headers = s3.signed("POST", path, "delete=", payload="UNSIGNED-PAYLOAD")
    reply = await s3.send("POST", path, "delete=", headers, b"<Delete>", length=100_000_000)
    assert (reply.status, reply.code) == (400, "MaxMessageLengthExceeded")


async def test_a_document_of_a_thousand_long_keys_is_taken(start, caller):
    front = await start()
    body = b"<Delete>"
    body += b"".join(b"<Object><Key>%d%s</Key></Object>" % (n, b"&amp;" * 250) for n in range(1000))
    md5 = base64.b64encode(hashlib.md5(body + b"</Delete>").digest()).decode()
    reply = await caller(front).call(
        "POST", f"/{front.bucket}", "delete=", body=body + b"</Delete>", headers={"content-md5": md5}
    )
    assert reply.status == 200, reply.body
    assert reply.body.count(b"<Deleted>") == 1000


async def test_the_stores_request_id_stands_beside_ours(start, caller):
    front = await start()
    reply = await caller(front).call("PUT", f"/{front.bucket}/k", body=BODY)
    ours, theirs = reply.headers["x-amz-request-id"], reply.headers["x-ferryman-store-request-id"]
    assert ours
    assert theirs
    assert ours != theirs


async def test_a_store_that_is_away_is_503_with_retry_after(start, caller):
    front = await start(store={"endpoint": "http://127.0.0.1:9"})
    s3 = caller(front)
    for method, path, body in (
        ("PUT", "k", BODY),
        ("PUT", "k", os.urandom(200_000)),
        ("DELETE", "k", b""),
        ("GET", "k", b""),
    ):
        reply = await s3.call(method, f"/{front.bucket}/{path}", body=body)
        assert (reply.status, reply.headers["retry-after"]) == (503, "2"), method
