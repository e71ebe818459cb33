"""`write_back: sync`: a client's answer says that the origin has it, too."""

from __future__ import annotations

import asyncio

import pytest
from botocore.exceptions import ClientError

from support.back import back_rule, draining, until_equal

pytestmark = pytest.mark.real


async def test_what_is_answered_is_at_the_origin_without_any_worker(start, client, call, origin, bucket):
    front = await start("sync", worker=False)
    s3 = client(front)
    await call(s3.put_object, Bucket=bucket, Key="a", Body=b"one")
    assert (await call(origin.get_object, Bucket=bucket, Key="a"))["Body"].read() == b"one"
    await call(s3.copy_object, Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    assert (await call(origin.get_object, Bucket=bucket, Key="b"))["Body"].read() == b"one"
    await call(s3.delete_objects, Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert (await call(origin.list_objects_v2, Bucket=bucket))["KeyCount"] == 0
    assert (await front.services.ledger.back.state(bucket)).pending == 0


async def test_the_answer_to_a_completed_upload_waits_and_is_whole(start, client, call, origin, bucket):
    s3 = client(await start("sync", worker=False))
    upload = (await call(s3.create_multipart_upload, Bucket=bucket, Key="m"))["UploadId"]
    part = await call(s3.upload_part, Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = await call(
        s3.complete_multipart_upload, Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts
    )
    assert done["Key"] == "m"
    assert (await call(origin.get_object, Bucket=bucket, Key="m"))["Body"].read() == b"part"


async def test_an_origin_that_refuses_makes_the_answer_503_and_the_write_stays_and_is_tried_again(
    start, client, call, origin, bucket, moto
):
    rule = back_rule(moto, f"{bucket}-not-there", mode="sync")
    front = await start(rule=rule, worker=False)
    s3 = client(front)
    with pytest.raises(ClientError, match=r"ServiceUnavailable.*its origin has not.*NoSuchBucket") as caught:
        await call(s3.put_object, Bucket=bucket, Key="a", Body=b"one")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert await front.stored("a") == b"one"
    assert (await front.services.ledger.back.state(bucket)).pending == 1
    await call(origin.create_bucket, Bucket=f"{bucket}-not-there")
    async with draining(front.services):
        await until_equal(front.services, bucket)
    found = await call(origin.get_object, Bucket=f"{bucket}-not-there", Key="a")
    assert found["Body"].read() == b"one"


async def test_eight_writers_of_one_key_all_get_their_answer_and_the_sides_are_equal(
    start, client, call, origin, bucket
):
    front = await start("sync")
    s3 = client(front)

    async def write(number):
        for turn in range(5):
            await call(s3.put_object, Bucket=bucket, Key="k", Body=f"{number} {turn}".encode())

    await asyncio.gather(*(write(number) for number in range(8)))
    await until_equal(front.services, bucket)
    assert (await call(origin.get_object, Bucket=bucket, Key="k"))["Body"].read() == await front.stored("k")
