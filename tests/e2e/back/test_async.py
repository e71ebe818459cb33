"""`write_back: async`: what clients write and delete through the gateway is at the origin a moment later."""

from __future__ import annotations

import asyncio
import io
import random

import pytest
from botocore.exceptions import ClientError

from support.back import until_equal

pytestmark = pytest.mark.real


def at_origin(origin, bucket, key):
    """The object's answer with its bytes; None when there is none."""
    try:
        found = origin.get_object(Bucket=bucket, Key=key)
    except origin.exceptions.NoSuchKey:
        return None
    return {**found, "Body": found["Body"].read()}


def tags_at(client, bucket, key):
    return {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


async def test_a_written_object_comes_to_the_origin_with_bytes_headers_metadata_and_tags(
    start, client, call, origin, bucket
):
    front = await start()
    await call(
        client(front).put_object,
        Bucket=bucket,
        Key="a/b ü.txt",
        Body=b"hello",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="b.txt"',
        ContentEncoding="identity",
        ContentLanguage="de",
        Metadata={"colour": "red"},
        Tagging="a=1&b=two%20words",
    )
    await until_equal(front.services, bucket)
    found = await asyncio.to_thread(at_origin, origin, bucket, "a/b ü.txt")
    assert found is not None
    assert found["Body"] == b"hello"
    assert found["ContentType"] == "text/plain; charset=utf-8"
    assert found["CacheControl"] == "max-age=60"
    assert found["ContentDisposition"] == 'attachment; filename="b.txt"'
    assert found["ContentEncoding"] == "identity"
    assert found["ContentLanguage"] == "de"
    assert found["Metadata"] == {"colour": "red"}
    assert await asyncio.to_thread(tags_at, origin, bucket, "a/b ü.txt") == {"a": "1", "b": "two words"}


async def test_a_deleted_object_is_deleted_at_the_origin_and_stays_deleted(
    start, client, call, origin, bucket
):
    await call(origin.put_object, Bucket=bucket, Key="old", Body=b"old")
    front = await start()
    s3 = client(front)
    await call(s3.delete_object, Bucket=bucket, Key="old")
    await until_equal(front.services, bucket)
    assert await asyncio.to_thread(at_origin, origin, bucket, "old") is None
    with pytest.raises(ClientError, match="404"):
        await call(s3.head_object, Bucket=bucket, Key="old")


async def test_many_keys_deleted_by_one_request_are_deleted_at_the_origin(
    start, client, call, origin, bucket
):
    for name in ("x1", "x2", "kept"):
        await call(origin.put_object, Bucket=bucket, Key=name, Body=b"old")
    front = await start()
    wanted = {"Objects": [{"Key": "x1"}, {"Key": "x2"}]}
    await call(client(front).delete_objects, Bucket=bucket, Delete=wanted)
    await until_equal(front.services, bucket)
    listed = await call(origin.list_objects_v2, Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == ["kept"]


async def test_a_copy_and_a_multipart_upload_and_a_change_of_tags_come_to_the_origin(
    start, client, call, origin, bucket
):
    front = await start()
    s3 = client(front)
    big = random.Random(1).randbytes(20 * 1024 * 1024 + 7)
    await call(s3.upload_fileobj, Fileobj=io.BytesIO(big), Bucket=bucket, Key="big")
    await call(s3.copy_object, Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "big"})
    await call(
        s3.put_object_tagging, Bucket=bucket, Key="copy", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]}
    )
    await until_equal(front.services, bucket)
    for key in ("big", "copy"):
        found = await asyncio.to_thread(at_origin, origin, bucket, key)
        assert found is not None
        assert found["Body"] == big, key
    assert await asyncio.to_thread(tags_at, origin, bucket, "copy") == {"k": "v"}
    await call(s3.delete_object_tagging, Bucket=bucket, Key="copy")
    await until_equal(front.services, bucket)
    assert await asyncio.to_thread(tags_at, origin, bucket, "copy") == {}


async def test_what_was_pulled_is_not_written_back_and_its_tags_are(start, client, call, origin, bucket):
    await call(origin.put_object, Bucket=bucket, Key="p", Body=b"pulled", Metadata={"of": "origin"})
    before = await call(origin.head_object, Bucket=bucket, Key="p")
    front = await start()
    s3 = client(front)
    found = await asyncio.to_thread(at_origin, s3, bucket, "p")
    assert found is not None
    assert found["Body"] == b"pulled"
    await front.until_stored("p")
    await front.idle()
    assert (await front.services.ledger.back.state(bucket)).pending == 0
    await call(
        s3.put_object_tagging, Bucket=bucket, Key="p", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]}
    )
    await until_equal(front.services, bucket)
    after = await call(origin.head_object, Bucket=bucket, Key="p")
    assert after["LastModified"] == before["LastModified"], "its bytes were written once more"
    assert after["Metadata"] == {"of": "origin"}
    assert await asyncio.to_thread(tags_at, origin, bucket, "p") == {"k": "v"}


async def test_a_refused_write_of_a_key_that_only_the_origin_has_deletes_nothing(
    start, client, call, origin, bucket
):
    await call(origin.put_object, Bucket=bucket, Key="only", Body=b"the only copy")
    front = await start()
    with pytest.raises(ClientError, match="BadDigest"):
        await call(
            client(front).put_object, Bucket=bucket, Key="only", Body=b"new", ContentMD5="A" * 22 + "=="
        )
    await until_equal(front.services, bucket)
    found = await asyncio.to_thread(at_origin, origin, bucket, "only")
    assert found is not None
    assert found["Body"] == b"the only copy"


async def test_a_rewritten_path_is_where_the_key_lies_at_the_origin(start, client, call, origin, bucket):
    changes = {
        "when": {"prefix": "img/", "suffix": ".png"},
        "path": {
            "replace_prefix": {"from": "img/", "to": "pictures/"},
            "replace_suffix": {"from": ".png", "to": ".p"},
        },
    }
    front = await start(changes=changes)
    s3 = client(front)
    await call(s3.put_object, Bucket=bucket, Key="img/a.png", Body=b"a")
    await call(s3.put_object, Bucket=bucket, Key="other/a.png", Body=b"not of the rule")
    await until_equal(front.services, bucket)
    listed = await call(origin.list_objects_v2, Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == ["pictures/a.p"]


@pytest.mark.parametrize("n", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_interleaved_puts_and_deletes_by_eight_clients_through_two_fronts_end_equal(
    start, client, call, origin, bucket, n
):
    namespace = f"t{bucket[2:10]}"
    first = await start(namespace=namespace)
    second = await start(namespace=namespace)
    clients = [client(front) for front in (first, second) for _ in range(4)]

    async def work(number, s3):
        rng = random.Random(number)
        for turn in range(n // 8):
            key = f"k{rng.randrange(10)}"
            if rng.random() < 0.4:
                await call(s3.delete_object, Bucket=bucket, Key=key)
            else:
                await call(s3.put_object, Bucket=bucket, Key=key, Body=f"{number} {turn}".encode() * 50)

    await asyncio.gather(*(work(number, s3) for number, s3 in enumerate(clients)))
    await until_equal(first.services, bucket, timeout_s=60.0)
    for at in range(10):
        ours = await first.stored(f"k{at}")
        theirs = await asyncio.to_thread(at_origin, origin, bucket, f"k{at}")
        assert (None if theirs is None else theirs["Body"]) == ours, f"k{at}"
