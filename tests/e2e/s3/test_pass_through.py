"""S3 clients write, list, copy and delete through the gateway; the store answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest
import requests
from boto3.s3.transfer import TransferConfig

from support.store.s3_calls import KEY_ID, SECRET, refusal
from workers.store.wire.signing import Credentials

pytestmark = pytest.mark.real
BODY = b"written by a client"


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
