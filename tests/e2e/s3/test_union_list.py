"""A bucket with `list: union` is listed as one that had everything from the start."""

from __future__ import annotations

import asyncio
import uuid

import boto3
import pytest
from botocore.config import Config

from scheduler.front.s3.listing.positions import common_prefix

pytestmark = pytest.mark.real
OLD_ID, OLD_SECRET = "OLD", "old-secret"


def rule(endpoint, bucket, **more):
    host = endpoint.removeprefix("http://")
    return {
        "name": "r",
        "type": "mirror",
        "request": {"protocol": "http"},
        "origin": {"hosts": [{"host": host, "base_path": f"/{bucket}/", "credential": "old"}]},
        **more,
    }


def old(key_id=OLD_ID, secret=OLD_SECRET, **more):
    return {
        "credentials": {"old": {"type": "s3v4", "access_key_id": key_id, "secret_access_key": secret, **more}}
    }


@pytest.fixture(params=["seaweed", "moto"])
def origin(request):
    """A bucket on a server that lists by component, and on one that lists by bytes: its client, and more."""
    name = f"old-{uuid.uuid4().hex[:16]}"
    server = request.getfixturevalue(request.param)
    if request.param == "moto":
        endpoint, key_id, secret = server, OLD_ID, OLD_SECRET
    else:
        endpoint, key_id, secret = server.endpoint, server.access_key_id, server.secret_access_key
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    yield client, endpoint, name, old(key_id, secret)
    client.close()


def shown(pages):
    keys, prefixes = [], []
    for page in pages:
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return keys, prefixes


def listed(s3, bucket, version, *, size=1000, **more):
    """What boto3's paginator of a version finds."""
    name = "list_objects_v2" if version == 2 else "list_objects"
    pages = s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": size}, **more)
    return shown(pages)


def expected(keys, prefix="", delimiter=""):
    """What one bucket with these keys would list."""
    inside = sorted(key for key in keys if key.startswith(prefix))
    rolled = [common_prefix(key, prefix, delimiter) for key in inside]
    plain = [key for key, above in zip(inside, rolled, strict=True) if above is None]
    return plain, sorted({above for above in rolled if above is not None})


AT_ORIGIN = [
    "a/1", "a/2", "a-1", "a.b", "aa", "b/c/d", "b/c-1", "img/photo/1.jpg", "img/photo-1.jpg", "zz/ü 1+2.txt",
    "gone/1", "gone/2", "both/x", "\u00e9t\u00e9/1",
]  # fmt: skip
IN_STORE = ["both/x", "new/1", "a/0", "a-x/1", "img/photo-2.jpg", "zz"[:1]]


async def test_everything_is_listed_from_the_first_second(start, client, origin):
    there, endpoint, name, credentials = origin
    for key in AT_ORIGIN:
        there.put_object(Bucket=name, Key=key, Body=f"old {key}".encode())
    front = await start(rule(endpoint, name), bucket_settings={"list": "union"}, origin=credentials)
    s3 = client(front)
    bucket = front.bucket

    def calls():
        for key in IN_STORE:
            s3.put_object(Bucket=bucket, Key=key, Body=b"new")
        for key in ("gone/1", "gone/2", "aa"):
            s3.delete_object(Bucket=bucket, Key=key)
        have = (set(AT_ORIGIN) | set(IN_STORE)) - {"gone/1", "gone/2", "aa"}
        for version in (1, 2):
            for size in (1, 2, 3, 1000):
                for prefix in ("", "a", "a/", "img/", "b/c", "nothing"):
                    for delimiter in ("", "/", "-"):
                        more = {"Prefix": prefix, "Delimiter": delimiter} if delimiter else {"Prefix": prefix}
                        found = listed(s3, bucket, version, size=size, **more)
                        assert found == expected(have, prefix, delimiter), (version, size, prefix, delimiter)
        entries = {e["Key"]: e for e in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert entries["both/x"]["Size"] == len(b"new")
        assert entries["b/c/d"]["Size"] == len(b"old b/c/d")
        assert entries["b/c/d"]["ETag"] == there.head_object(Bucket=name, Key="b/c/d")["ETag"]
        for key, entry in entries.items():
            head = s3.head_object(Bucket=bucket, Key=key)
            assert head["ContentLength"] == entry["Size"], key
            assert len(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) == entry["Size"], key

    await asyncio.to_thread(calls)
