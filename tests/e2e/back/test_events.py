"""Writes that do not pass the gateway: the store's notifications bring them to the origin by the same way."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.intake.accept import Account, Intake
from scheduler.intake.records import Context, take
from scheduler.logs.filters import MissFilter
from support.back import until_equal

pytestmark = pytest.mark.real


def told(bucket, name, key):
    return {"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]}


@pytest.fixture
def notify():
    """Hand a document to the intake of a gateway; the counts of its answer."""

    async def do(front, document):
        intake = Intake(dispatcher=front.services.dispatcher, ledger=front.services.ledger)
        account = Account()
        await intake.take([(1, take(document, Context(filter=MissFilter())))], account, patience_s=1.0)
        return dict(account.counts)

    return do


async def test_a_direct_write_and_a_direct_delete_come_to_the_origin(start, call, origin, bucket, notify):
    front = await start()
    store = front.services.store
    await call(origin.put_object, Bucket=bucket, Key="old", Body=b"old")
    await store.put_small(bucket, "a b", b"direct", content_type="text/plain")
    assert await notify(front, told(bucket, "s3:ObjectCreated:Put", "a+b")) == {"written_back": 1}
    assert await notify(front, told(bucket, "s3:ObjectRemoved:Delete", "old")) == {"tombstones": 1}
    await until_equal(front.services, bucket)
    listed = await call(origin.list_objects_v2, Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == ["a b"]


async def test_an_expiry_deletes_nothing_at_the_origin(start, call, origin, bucket, notify):
    front = await start()
    await call(origin.put_object, Bucket=bucket, Key="old", Body=b"old")
    document = told(bucket, "s3:LifecycleExpiration:Delete", "old")
    assert await notify(front, document) == {"tombstones": 1}
    await asyncio.sleep(0)
    await until_equal(front.services, bucket)
    assert (await call(origin.list_objects_v2, Bucket=bucket))["KeyCount"] == 1


async def test_what_was_pulled_is_told_of_and_not_written_back(start, client, call, origin, bucket, notify):
    await call(origin.put_object, Bucket=bucket, Key="p", Body=b"pulled")
    before = (await call(origin.head_object, Bucket=bucket, Key="p"))["LastModified"]
    front = await start()
    await call(client(front).get_object, Bucket=bucket, Key="p")
    await front.until_stored("p")
    assert await notify(front, told(bucket, "ObjectCreated:Put", "p")) == {"written_back": 1}
    await until_equal(front.services, bucket)
    assert (await call(origin.head_object, Bucket=bucket, Key="p"))["LastModified"] == before


async def test_the_echo_of_a_write_through_the_gateway_is_not_copied_twice(
    start, client, call, origin, bucket, notify
):
    front = await start()
    await call(client(front).put_object, Bucket=bucket, Key="a", Body=b"1", Metadata={"x": "y"})
    await until_equal(front.services, bucket)
    before = await call(origin.head_object, Bucket=bucket, Key="a")
    await asyncio.sleep(1.1)  # Last-Modified has seconds
    await notify(front, told(bucket, "ObjectCreated:Put", "a"))
    await until_equal(front.services, bucket)
    after = await call(origin.head_object, Bucket=bucket, Key="a")
    assert after["LastModified"] == before["LastModified"]


async def test_a_bucket_without_the_way_back_ignores_writes(start, bucket, notify, moto):
    front = await start("off")
    assert await notify(front, told(bucket, "ObjectCreated:Put", "a")) == {"ignored": 1}
    assert (await front.services.ledger.back.state(bucket)).pending == 0
