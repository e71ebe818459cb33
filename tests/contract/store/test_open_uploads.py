"""P41: what killed processes left open on a real store; `tests/faults/store` has what clocks do to it."""

from __future__ import annotations

import contextlib
import time

import pytest
import pytest_asyncio

from support.store.stores import MIB, store_at
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.store.listing import list_uploads
from workers.store.metadata import object_meta
from workers.store.wire import multipart
from workers.store.wire.addressing import PROBE_PREFIX
from workers.store.write.journal import UPLOADS_PREFIX
from workers.store.write.sweep import end_earlier, sweep

pytestmark = pytest.mark.real

PLAN = FetchPlan(bucket="b", rule="images", groups=(OriginGroup(primary=Origin(host="o.example")),))


@pytest_asyncio.fixture
async def store(seaweed, bucket):
    async with store_at(
        seaweed.endpoint,
        access_key_id=seaweed.access_key_id,
        secret_access_key=seaweed.secret_access_key,
    ) as client:
        await client.ensure_bucket(bucket)
        yield client


async def keys_of(store, bucket, prefix):
    return [listed.key async for page in store.list(bucket, prefix) for listed in page.objects]


async def test_p41_upload_of_a_killed_process_is_swept_and_no_other(store, bucket):
    """P41: our own, recognised by its note; somebody else's stays open."""
    await store.guarantees(bucket)
    # What a process leaves that is killed right after it created the upload.
    await store.journal.opened(bucket, "big/one", "attempt-1")
    await multipart.create(store.transport, bucket, "big/one", {}, crc32c=False)
    theirs, _ = await multipart.create(store.transport, bucket, "big/two", {}, crc32c=False)
    young = await sweep(store, bucket, older_than_s=3600)
    assert (young.aborted, young.young) == (0, 1)
    swept = await sweep(store, bucket, older_than_s=3600, now=time.time() + 7200)
    assert (swept.aborted, swept.forgotten, swept.failed) == (1, 1, 0)
    left = [u async for u in list_uploads(store.transport, bucket, "", headers={})]
    assert [u.upload_id for u in left] == [theirs.id]
    assert await keys_of(store, bucket, UPLOADS_PREFIX) == []


async def test_p41_the_upload_of_a_killed_self_test_is_swept(store, bucket):
    """It has no note: its place is nobody else's."""
    await multipart.create(store.transport, bucket, f"{PROBE_PREFIX}of-the-dead/parts", {}, crc32c=False)
    theirs, _ = await multipart.create(store.transport, bucket, "probe/parts", {}, crc32c=False)
    assert (await sweep(store, bucket, older_than_s=3600)).aborted == 0
    assert (await sweep(store, bucket, older_than_s=3600, now=time.time() + 7200)).aborted == 1
    left = [u async for u in list_uploads(store.transport, bucket, "", headers={})]
    assert [u.upload_id for u in left] == [theirs.id]


async def test_p41_the_upload_of_a_killed_try_is_swept_although_the_same_try_came_again(store, bucket):
    """P41: a message that is delivered again has the attempt of the delivery that was killed."""
    meta = object_meta([], PLAN, key="big", url="http://o.example/big", attempt="m1-0", fetched_at="")
    async with contextlib.AsyncExitStack() as stack:
        killed = await stack.enter_async_context(store.upload(bucket, "big", meta, attempt="m1-0", size=None))
        await killed.write(b"x" * (6 * MIB))
        assert len(await keys_of(store, bucket, UPLOADS_PREFIX)) == 1
        async with store.upload(bucket, "big", meta, attempt="m1-0", size=None) as again:
            await again.write(b"y" * (6 * MIB))
            assert (await again.commit()).created
        assert len(await keys_of(store, bucket, UPLOADS_PREFIX)) == 1, "that of the killed one is left"
        swept = await sweep(store, bucket, older_than_s=-1)
        assert (swept.aborted, swept.forgotten) == (1, 1)
        assert [u async for u in list_uploads(store.transport, bucket, "", headers={})] == []


async def test_p41_a_try_that_comes_again_ends_what_its_killed_delivery_left_open(store, bucket):
    """P41: without waiting for the sweep, and what others have open stays."""
    meta = object_meta([], PLAN, key="big", url="http://o.example/big", attempt="m1-0", fetched_at="")
    async with contextlib.AsyncExitStack() as stack:
        for key, attempt in (("big", "m1-0"), ("other", "m1-01")):
            upload = store.upload(bucket, key, meta, attempt=attempt, size=None)
            await (await stack.enter_async_context(upload)).write(b"x" * (6 * MIB))
        assert await end_earlier(store, bucket, "m1-0") == 1
        left = [u.key async for u in list_uploads(store.transport, bucket, "", headers={})]
        assert left == ["other"]
        assert len(await keys_of(store, bucket, UPLOADS_PREFIX)) == 1
