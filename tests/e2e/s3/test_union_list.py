"""A bucket with `list: union` is listed as one that had everything from the start."""

from __future__ import annotations

import asyncio
import random
import re
import uuid

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from redis.exceptions import ConnectionError as RedisAway

from scheduler.front.s3.listing.positions import common_prefix
from support.store.fake_s3 import FakeS3, running_fake_s3

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
            for size in (2, 1000):
                for prefix in ("", "a", "img/", "b/c"):
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


@pytest.fixture
async def fake():
    """An origin whose requests are counted, and that fails on demand."""
    async with running_fake_s3(FakeS3()) as server:
        yield server


def lists(fake):
    return [request for request in fake.requests if request.action == "list"]


async def union(start, fake, *rules, **more):
    section = {"list": "union", **more.pop("section", {})}
    rules = rules or (rule(fake.endpoint, "old"),)
    return await start(*rules, bucket_settings=section, origin=old(), **more)


async def test_a_page_costs_an_origin_one_request_and_two_where_all_was_deleted(start, client, caller, fake):
    front = await union(start, fake)
    s3 = client(front)
    for n in range(30):
        fake.place(f"gone/{n:02}", b"x")
        fake.place(f"k/{n:02}", b"x")
    gone = [{"Key": f"gone/{n:02}"} for n in range(30)]
    await asyncio.to_thread(s3.delete_objects, Bucket=front.bucket, Delete={"Objects": gone})
    fake.requests.clear()
    found = await asyncio.to_thread(s3.list_objects_v2, Bucket=front.bucket, Prefix="k/", MaxKeys=10)
    assert (len(found["Contents"]), len(lists(fake))) == (10, 1)
    fake.requests.clear()
    found = await asyncio.to_thread(s3.list_objects_v2, Bucket=front.bucket, MaxKeys=10)
    assert len(lists(fake)) == 2
    assert found["KeyCount"] + bool(found["IsTruncated"]) > 0
    fake.requests.clear()
    found = await asyncio.to_thread(s3.list_objects_v2, Bucket=front.bucket, Delimiter="/")
    assert len(lists(fake)) == 2
    pages = await asyncio.to_thread(listed, s3, front.bucket, 1, size=5, Delimiter="/")
    assert pages == ([], ["k/"])
    assert (await asyncio.to_thread(listed, s3, front.bucket, 2, size=7))[0] == [
        f"k/{n:02}" for n in range(30)
    ]


async def test_an_origin_that_cannot_be_listed_is_503_and_never_a_short_list(
    start, client, caller, fake, capfd
):
    fake.place("old", b"x")
    front = await union(start, fake)
    s3 = client(front)
    await asyncio.to_thread(s3.put_object, Bucket=front.bucket, Key="new", Body=b"x")
    fake.fault = lambda request: (403, "AccessDenied") if request.action == "list" else None
    for query in ("", "list-type=2", "delimiter=%2F&list-type=2"):
        reply = await caller(front).call("GET", f"/{front.bucket}", query)
        assert (reply.status, reply.code) == (503, "ServiceUnavailable")
        assert reply.headers["retry-after"]
        assert b"old" not in reply.body.partition(b"<Message>")[2].partition(b"127.0.0.1")[1]
    assert "listing_refused" in capfd.readouterr().out
    fake.fault = lambda request: "truncate" if request.action == "list" else None
    assert (await caller(front).call("GET", f"/{front.bucket}", "list-type=2")).status == 503
    fake.fault = None
    assert (await asyncio.to_thread(listed, s3, front.bucket, 2))[0] == ["new", "old"]


async def test_a_degraded_list_is_the_stores_and_says_so(start, client, caller, fake, capfd):
    fake.place("old", b"x")
    front = await union(start, fake, section={"list_degraded": "store"})
    s3 = client(front)
    for n in range(5):
        await asyncio.to_thread(s3.put_object, Bucket=front.bucket, Key=f"new{n}", Body=b"x")
    fake.fault = lambda request: (500, "InternalError") if request.action == "list" else None
    reply = await caller(front).call("GET", f"/{front.bucket}", "list-type=2")
    assert (reply.status, reply.headers["x-ferryman-list"]) == (200, "store")
    assert b"<Key>old</Key>" not in reply.body
    assert "listing_degraded" in capfd.readouterr().out
    found = await asyncio.to_thread(listed, s3, front.bucket, 2, size=2)
    assert found == ([f"new{n}" for n in range(5)], [])


async def test_without_redis_nobody_knows_what_was_deleted_so_nothing_is_listed(
    start, caller, fake, monkeypatch
):
    async def away(*_):
        raise RedisAway("away")

    fake.place("old", b"x")
    front = await union(start, fake)
    monkeypatch.setattr(front.services.ledger.claims, "buried", away)
    reply = await caller(front).call("GET", f"/{front.bucket}", "list-type=2")
    assert (reply.status, b"Redis does not answer" in reply.body) == (503, True)


async def test_parameters_mean_what_they_mean_to_s3(start, caller, client, fake):
    for key in ("a b", "c+d", "e&f"):
        fake.place(key, b"x")
    front = await union(start, fake)

    async def ask(query):
        return await caller(front).call("GET", f"/{front.bucket}", query)

    none = await ask("list-type=2&max-keys=0")
    assert b"<KeyCount>0</KeyCount>" in none.body
    assert b"<IsTruncated>false</IsTruncated>" in none.body
    assert b"<MaxKeys>1000</MaxKeys>" in (await ask("list-type=2&max-keys=5000")).body
    encoded = await ask("encoding-type=url&list-type=2")
    assert [k.decode() for k in re.findall(rb"<Key>(.*?)</Key>", encoded.body)] == ["a+b", "c%2Bd", "e%26f"]
    plain = await ask("list-type=2")
    assert [k.decode() for k in re.findall(rb"<Key>(.*?)</Key>", plain.body)] == ["a b", "c+d", "e&amp;f"]
    assert b"<Owner>" not in plain.body
    for query in ("list-type=2&max-keys=x", "encoding-type=gzip", "list-type=2&continuation-token=AAAA"):
        reply = await ask("&".join(sorted(query.split("&"))))
        assert (reply.status, reply.code) == (400, "InvalidArgument"), query


async def test_any_front_goes_on_where_another_stopped(start, client, fake):
    for n in range(9):
        fake.place(f"k{n}", b"x")
    one = await union(start, fake)
    two = await union(start, fake, bucket=one.bucket)
    first = await asyncio.to_thread(client(one).list_objects_v2, Bucket=one.bucket, MaxKeys=4)
    token = first["NextContinuationToken"]
    second = await asyncio.to_thread(
        client(two).list_objects_v2, Bucket=one.bucket, ContinuationToken=token, MaxKeys=9
    )
    assert [e["Key"] for e in second["Contents"]] == [f"k{n}" for n in range(4, 9)]


async def test_a_list_takes_the_permission_to_list(start, client, caller, fake):
    fake.place("old", b"x")
    front = await union(start, fake)
    with pytest.raises(botocore.exceptions.ClientError, match="lacks the permission 'list'"):
        await asyncio.to_thread(client(front, "READER").list_objects_v2, Bucket=front.bucket)
    assert lists(fake) == []


async def test_what_is_ours_and_what_no_rule_names_is_not_listed(start, client, fake):
    for key in (
        "img/1",
        "img/.ferryman",
        ".ferryman/x",
        "a/../b",
        "a//b",
        "doc/1.txt",
        "other/1",
        "doc/2.bin",
    ):
        fake.place(key, b"x")
    img = rule(fake.endpoint, "old", name="img", when={"prefix": "img/"})
    doc = rule(fake.endpoint, "old", name="doc", when={"prefix": "doc/", "suffix": ".txt"})
    front = await union(start, fake, img, doc)
    s3 = client(front)
    assert await asyncio.to_thread(listed, s3, front.bucket, 2) == (
        ["doc/1.txt", "img/.ferryman", "img/1"],
        [],
    )
    assert await asyncio.to_thread(listed, s3, front.bucket, 1, Delimiter="/") == ([], ["doc/", "img/"])


async def test_rules_that_cannot_be_listed_are_not_taken_by_the_api(start, caller, fake):
    front = await start(None, bucket_settings={"list": "union", "rules": None}, origin=old())
    document = (
        "<OriginConfiguration><OriginRule><RulePriority>1</RulePriority><OriginType>Mirror</OriginType>"
        "<OriginCondition><HTTPStatusCode>404</HTTPStatusCode></OriginCondition><OriginParameter>"
        "<Protocol>HTTP</Protocol></OriginParameter><OriginInfo><HostInfo><HostName>www.example.com</HostName>"
        "</HostInfo></OriginInfo></OriginRule></OriginConfiguration>"
    )
    reply = await caller(front).call("PUT", f"/{front.bucket}", "origin=", body=document.encode())
    assert reply.status == 400
    assert f"buckets.{front.bucket}.list is union".encode() in reply.body
    assert front.services.rules.snapshot(front.bucket) is None


async def test_a_random_bucket_is_listed_as_one_that_had_everything(start, client, origin):
    there, endpoint, name, credentials = origin
    dice = random.Random(7)
    parts = ["a", "a-", "b.c", "ü", "x y", "0"]
    keys = sorted({"/".join(dice.choices(parts, k=dice.randint(1, 3))) + f"-{n % 9}" for n in range(150)})
    for key in keys:
        there.put_object(Bucket=name, Key=key, Body=b"old")
    front = await start(rule(endpoint, name), bucket_settings={"list": "union"}, origin=credentials)
    s3 = client(front)

    def calls():
        gone, new = set(dice.sample(keys, 40)), {f"{key}.new" for key in dice.sample(keys, 40)}
        for key in gone:
            s3.delete_object(Bucket=front.bucket, Key=key)
        for key in new:
            s3.put_object(Bucket=front.bucket, Key=key, Body=b"new")
        have = (set(keys) - gone) | new
        for version in (1, 2):
            for prefix, delimiter in (("", ""), ("", "/"), ("a", "/"), ("a/", ""), ("a-/", "/")):
                more = {"Prefix": prefix, "Delimiter": delimiter} if delimiter else {"Prefix": prefix}
                found = listed(s3, front.bucket, version, size=dice.randint(2, 40), **more)
                assert found == expected(have, prefix, delimiter), (version, prefix, delimiter)

    await asyncio.to_thread(calls)
