"""What a key of `gateway.access_keys` may, and what nobody may."""

from __future__ import annotations

import asyncio
import os

import pytest

from support.store.s3_calls import refusal

pytestmark = pytest.mark.real
BODY = b"written by a client"


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
