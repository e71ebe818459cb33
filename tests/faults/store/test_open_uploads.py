"""P41: what a killed process or a lost answer leaves open is found again, whatever the clocks say."""

from __future__ import annotations

import time

import pytest

from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.store_faults import BUCKET, LARGE, assert_nothing_left
from support.store.stores import meta_of, put, store_at
from workers.store.guarantees import CreateOnly, StoreGuarantees
from workers.store.wire import multipart
from workers.store.write.sweep import end_earlier, sweep

STRONG = StoreGuarantees(
    create_only=CreateOnly.IF_NONE_MATCH, multipart_create_only=CreateOnly.IF_NONE_MATCH, checksums=("md5",)
)

clocks = pytest.mark.parametrize("ahead_s", [0.0, 600.0, -600.0], ids=["same", "ahead", "behind"])


@clocks
async def test_the_upload_of_a_killed_process_is_swept_whatever_its_clock_said(ahead_s):
    """A process whose clock was ten minutes behind the store's was killed, and its upload stayed for good."""
    async with running_fake_s3(FakeS3(ahead_s=ahead_s)) as fake, store_at(fake.endpoint) as store:
        await store.journal.opened(BUCKET, "big", "m1-0.x")
        await multipart.create(store.transport, BUCKET, "big", {}, crc32c=False)
        await multipart.create(store.transport, BUCKET, "big/theirs", {}, crc32c=False)
        swept = await sweep(store, BUCKET, older_than_s=3600, now=time.time() + 7200)
        assert (swept.aborted, swept.forgotten, swept.young, swept.failed) == (1, 1, 0, 0)
        assert [upload[0] for upload in fake.uploads.values()] == ["big/theirs"]


@clocks
async def test_a_try_that_comes_again_ends_what_its_killed_delivery_left_whatever_its_clock_said(ahead_s):
    async with running_fake_s3(FakeS3(ahead_s=ahead_s)) as fake, store_at(fake.endpoint) as store:
        await store.journal.opened(BUCKET, "big", "m1-0.x")
        await multipart.create(store.transport, BUCKET, "big", {}, crc32c=False)
        assert await end_earlier(store, BUCKET, "m1-0") == 1
        await assert_nothing_left(fake)


async def test_an_upload_of_the_same_key_that_others_began_hours_before_stays():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        fake.ahead_s = -7200.0
        theirs, _ = await multipart.create(store.transport, BUCKET, "big", {}, crc32c=False)
        fake.ahead_s = 0.0
        await store.journal.opened(BUCKET, "big", "m1-0.x")
        await multipart.create(store.transport, BUCKET, "big", {}, crc32c=False)
        assert (await sweep(store, BUCKET, older_than_s=-1)).aborted == 1
        assert list(fake.uploads) == [theirs.id]


async def test_a_note_that_cannot_be_read_does_not_hold_up_the_sweep():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        for name, body in (("a", b"not JSON"), ("b", b"[]"), ("c", b'{"at": 1.5}'), ("d", b"7")):
            fake.place(f".ferryman/uploads/{name}", body)
        await store.journal.opened(BUCKET, "big", "z")
        swept = await sweep(store, BUCKET, older_than_s=-1)
        assert (swept.forgotten, swept.failed) == (1, 0)


def lose_creations(fake, times, *, taking_s=0.0):
    """So many are begun and answered with 500; `taking_s` later by the store's clock, each."""
    do, lost = fake._do, []

    def losing(request):
        answer = do(request)
        if request.action != "create" or len(lost) == times:
            return answer
        lost.append(request)
        fake.ahead_s += taking_s
        return 500, {}, b"<Error><Code>InternalError</Code></Error>"

    fake._do = losing


@clocks
async def test_an_upload_that_was_begun_behind_a_500_is_aborted(ahead_s):
    """The store begins it, fails, and begins another one when it is asked again."""
    async with running_fake_s3(FakeS3(ahead_s=ahead_s)) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        lose_creations(fake, 1)
        assert (await put(store, BUCKET, "k", LARGE)).created
        assert fake.seen["create"] == 2
        await assert_nothing_left(fake)


async def test_tries_that_are_minutes_apart_leave_nothing_although_no_answer_came_to_any_but_the_last():
    """A store that hangs for minutes each time: an upload is found by the note of its own try."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        lose_creations(fake, 3, taking_s=180.0)
        assert (await put(store, BUCKET, "k", LARGE)).created
        assert fake.seen["create"] == 4
        await assert_nothing_left(fake)


async def test_an_upload_that_was_created_after_minutes_of_refusals_is_swept_when_its_process_was_killed():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        refused = []

        def busy(request):
            if request.action != "create" or len(refused) == 2:
                return None
            refused.append(request)
            fake.ahead_s += 120.0
            return (503, "SlowDown")

        fake.fault = busy
        async with store.upload(BUCKET, "k", meta_of("m1-0"), attempt="m1-0", size=None) as upload:
            await upload.write(LARGE)
            assert fake.seen["create"] == 3
            # The process is killed here: what a sweep sees then.
            assert (await sweep(store, BUCKET, older_than_s=-1, now=time.time() + 3600)).aborted == 1
            assert fake.uploads == {}
