"""A key that a worker has taken, while Redis or the worker itself fails in the middle of it."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from support.back import settling, until_equal
from support.gateway import until
from workers.back import settle
from workers.back.settle import Later, LeaseOver

pytestmark = pytest.mark.real


async def taken_of(services, bucket, settler):
    """The one key that is due."""
    found = []

    async def due() -> bool:
        found.extend(await services.ledger.back.take(bucket, owner=settler.owner, limit=10))
        return bool(found)

    await until(due)
    (one,) = found
    return one


async def test_a_call_of_redis_that_is_lost_meanwhile_is_no_failure_of_the_key(
    start, client, call, origin, bucket, monkeypatch
):
    await call(origin.put_object, Bucket=bucket, Key="k", Body=b"as it was")
    front = await start(worker=False)
    await call(client(front).delete_object, Bucket=bucket, Key="k")
    services = front.services

    async def away(*_):
        raise RedisConnectionError("gone")

    async with settling(services) as settler:
        taken = await taken_of(services, bucket, settler)
        object.__setattr__(taken, "how", "w")  # so that the tombstone is asked for
        with monkeypatch.context() as broken:
            broken.setattr(services.ledger.claims, "tombstone", away)
            with pytest.raises(RedisConnectionError):
                await settler.settle(taken)
        assert await services.ledger.failures.count(bucket) == 0
        assert (await services.ledger.back.state(bucket)).pending == 1
        await settler.settle(taken)
    await until_equal(services, bucket)
    listed = await call(origin.list_objects_v2, Bucket=bucket)
    assert "Contents" not in listed


@pytest.mark.parametrize("what", ["small", "in parts", "tags", "delete"])
async def test_whoever_stood_still_for_longer_than_his_lease_changes_nothing_at_the_origin(
    start, client, call, origin, bucket, monkeypatch, what
):
    await call(origin.put_object, Bucket=bucket, Key="k", Body=b"as it was")
    before = await call(origin.head_object, Bucket=bucket, Key="k")
    front = await start(worker=False)
    services, s3 = front.services, client(front)
    big = random.Random(1).randbytes(20 << 20)
    if what == "delete":
        await call(s3.delete_object, Bucket=bucket, Key="k")
    elif what == "tags":
        await call(s3.get_object, Bucket=bucket, Key="k")
        await front.until_stored("k")
        tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
        await call(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=tags)
    else:
        await call(s3.put_object, Bucket=bucket, Key="k", Body=big if what == "in parts" else b"new")
    async with settling(services) as settler:
        taken = await taken_of(services, bucket, settler)
        with monkeypatch.context() as slow:
            slow.setattr(settle, "_SURE_S", -1.0)
            done = await settler.settle(taken)
        assert isinstance(done, Later)
        assert isinstance(done.error, LeaseOver)
        after = await call(origin.head_object, Bucket=bucket, Key="k")
        assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
        assert "Uploads" not in await call(origin.list_multipart_uploads, Bucket=bucket)
        assert await services.ledger.failures.count(bucket) == 0
        assert (await services.ledger.back.state(bucket)).pending == 1
        await settler.settle(taken)
    await until_equal(services, bucket)


async def test_a_lease_that_could_not_be_renewed_is_over_at_once(start, client, call, bucket, monkeypatch):
    front = await start(worker=False)
    await call(client(front).put_object, Bucket=bucket, Key="k", Body=b"new")
    services = front.services
    monkeypatch.setattr(settle, "LEASE_MS", 30)
    async with settling(services) as settler, settling(services) as other:
        taken = await taken_of(services, bucket, settler)
        reading = services.store.get

        async def read_late(*asked, **more):
            # Somebody else has it meanwhile, as after a lease that ended.
            await services.ledger.back.put_off(taken, owner=settler.owner, delay_s=0.0, tries=0)
            await taken_of(services, bucket, other)
            await asyncio.sleep(0.3)
            return await reading(*asked, **more)

        monkeypatch.setattr(services.store, "get", read_late)
        done = await settler.settle(taken)
    assert isinstance(done, Later)
    assert isinstance(done.error, LeaseOver)
