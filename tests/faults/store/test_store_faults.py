"""What is left in the store when something breaks: the whole object, or nothing, and no open upload."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.store_faults import BUCKET, LARGE, SMALL, Once, assert_nothing_left, chunks_of, user
from support.store.stores import MIB, meta_of, put, store_at
from workers.errors import (
    KeyNotRepresentable,
    StoreCorrupted,
    StoreDenied,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
)
from workers.settings import LimitSettings

if TYPE_CHECKING:
    from support.store.fake_s3 import Fault, Request


@pytest.mark.parametrize(
    "fault", ["cut", (500, "InternalError"), (503, "SlowDown"), "lose_answer", "truncate"]
)
@pytest.mark.parametrize(
    ("action", "at"), [("create", 1), ("part", 1), ("part", 2), ("part", 3), ("complete", 1)]
)
async def test_one_failure_at_any_point_is_survived(action, at, fault):
    """P41, P40: each request is retried by itself; nothing is left open."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once(action, fault, at=at)
        commit = await put(store, BUCKET, "k", chunks_of(LARGE), known=False)
        assert commit.created
        assert fake.objects["k"].body == LARGE
        # Also the upload whose id was in a lost answer of `create`.
        await assert_nothing_left(fake)


@pytest.mark.parametrize(
    ("action", "at"),
    [("put", 1), ("create", 1), ("part", 1), ("part", 2), ("part", 3), ("complete", 1)],
)
@pytest.mark.parametrize(
    "fault", ["cut", (500, "InternalError"), (403, "AccessDenied"), (400, "InvalidPart")]
)
async def test_p41_failure_for_good_leaves_neither_object_nor_upload(action, at, fault):
    """P41, S13: connect, part N, complete; the object is absent and the upload aborted."""
    body = SMALL if action == "put" else LARGE
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once(action, fault, at=at, times=1000)
        with pytest.raises(StoreError):
            await put(store, BUCKET, "k", chunks_of(body), known=False)
        assert fake.user_keys() == set()
        await assert_nothing_left(fake)
        assert store.memory.used_bytes == 0


async def test_error_document_in_a_200_of_complete_is_no_success():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("complete", (200, "InternalError"))
        commit = await put(store, BUCKET, "k", LARGE)
        assert commit.created
        assert fake.objects["k"].body == LARGE


async def test_store_that_is_not_there_is_unavailable():
    async with running_fake_s3(FakeS3()) as fake:
        endpoint = fake.endpoint
    async with store_at(endpoint) as store:
        with pytest.raises(StoreUnavailable):
            await store.head(BUCKET, "k")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "SlowDown", StoreThrottled),
        (429, "TooManyRequests", StoreThrottled),
        (500, "InternalError", StoreUnavailable),
        (403, "AccessDenied", StoreDenied),
        (401, "Unauthorized", StoreDenied),
        (400, "BadDigest", StoreCorrupted),
        (400, "KeyTooLongError", KeyNotRepresentable),
    ],
)
async def test_refusals_become_their_errors(status, code, error):
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put", (status, code), times=1000)
        with pytest.raises(error) as caught:
            await put(store, BUCKET, "k", SMALL)
        assert (caught.value.status, caught.value.code) == (status, code)


async def test_slow_down_storm_does_not_lose_the_object():
    """A storm of 503 over every third request: all of a hundred objects arrive."""
    count = Counter()

    def storm(request: Request) -> Fault | None:
        if not user(request):
            return None
        count["all"] += 1
        return (503, "SlowDown") if count["all"] % 3 else None

    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, max_retries=12) as store:
        await store.guarantees(BUCKET)
        fake.fault = storm
        done = await asyncio.gather(*(put(store, BUCKET, f"k{n}", SMALL) for n in range(100)))
        assert all(commit.created for commit in done)
        assert len(fake.user_keys()) == 100


async def test_upload_that_is_left_without_commit_is_aborted():
    """S13: a broken origin read leaves the block by an exception."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        with pytest.raises(ZeroDivisionError):
            async with store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=None) as upload:
                await upload.write(LARGE)
                raise ZeroDivisionError
        assert fake.user_keys() == set()
        await assert_nothing_left(fake)
        assert store.memory.used_bytes == 0


@pytest.mark.parametrize("action", ["create", "part", "complete"])
async def test_p41_cancelled_in_the_middle_leaves_nothing(action):
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        reached = asyncio.Event()

        def stop(request: Request) -> Fault | None:
            if request.action == action and user(request):
                reached.set()
            return None

        fake.fault = stop
        task = asyncio.create_task(put(store, BUCKET, "k", chunks_of(LARGE), known=False))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Whole or absent: a completion that was on its way may have won.
        assert fake.objects.get("k") is None or fake.objects["k"].body == LARGE
        await assert_nothing_left(fake)
        assert store.memory.used_bytes == 0


async def test_fewer_bytes_than_promised_are_never_committed():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        with pytest.raises(StoreError, match="promised"):
            async with store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=10) as upload:
                await upload.write(b"123456789")
                await upload.commit()
        with pytest.raises(StoreError, match="promised"):
            async with store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=10) as upload:
                await upload.write(b"12345678901")
        assert fake.user_keys() == set()


async def test_store_that_holds_other_bytes_is_found_out_and_cleaned():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)

        def damage(request: Request) -> Fault | None:
            if request.action == "put" and user(request):
                request.body = b"!" + request.body[1:]
            return None

        fake.fault = damage
        with pytest.raises(StoreCorrupted):
            await put(store, BUCKET, "k", SMALL)
        assert fake.user_keys() == set()


async def test_p40_no_checksum_trailer_is_ever_sent():
    """P40: a store that refuses aws-chunked and trailers takes a PUT and a multipart upload."""
    async with running_fake_s3(FakeS3(refuse_trailers=True)) as fake, store_at(fake.endpoint) as store:
        assert (await put(store, BUCKET, "s", SMALL)).created
        assert (await put(store, BUCKET, "l", LARGE)).created
        assert all("x-amz-trailer" not in request.headers for request in fake.requests)


async def test_metadata_that_a_store_refuses_does_not_lose_the_object():
    """S10: the object is never lost for its metadata."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)

        def strict(request: Request) -> Fault | None:
            big = any(name == "x-amz-meta-long" for name in request.headers)
            return (400, "MetadataTooLarge") if big and request.action in {"put", "create"} else None

        fake.fault = strict
        for key, body in (("s", SMALL), ("l", LARGE)):
            meta = meta_of("a", long="x" * 500)
            assert (await put(store, BUCKET, key, body, attempt="a", meta=meta)).created
            kept = fake.objects[key].headers
            assert kept["x-amz-meta-ferryman-attempt"] == "a"
            assert "long" in kept["x-amz-meta-ferryman-meta-cut"]


# ---------------------------------------------------------------------- S12


async def test_replacement_needs_the_recorded_object_and_our_mark():
    """S12: only --replace overwrites, and only what we wrote and nobody changed."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        first = await put(store, BUCKET, "k", b"one")
        assert (await put(store, BUCKET, "k", b"two", replace_etag=first.etag)).created
        assert fake.objects["k"].body == b"two"
        assert not (await put(store, BUCKET, "k", b"three", replace_etag=first.etag)).created
        assert not (await put(store, BUCKET, "gone", b"x", replace_etag=first.etag)).created
        fake.place("theirs", b"theirs")
        theirs = fake.objects["theirs"].etag
        assert not (await put(store, BUCKET, "theirs", b"x", replace_etag=theirs)).created
        assert fake.objects["theirs"].body == b"theirs"
        assert "gone" not in fake.objects


async def test_replacement_loses_against_a_user_who_is_quicker():
    """S12: If-Match on the commit."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        first = await put(store, BUCKET, "k", b"one")
        fake.before_commit = lambda key: fake.place(key, b"the user's")
        assert not (await put(store, BUCKET, "k", b"two", replace_etag=first.etag)).created
        assert not (await put(store, BUCKET, "k", LARGE, replace_etag=first.etag)).created
        assert fake.objects["k"].body == b"the user's"
        await assert_nothing_left(fake)


# ---------------------------------------------------------------------- parts on disk


async def test_parts_above_an_eighth_of_the_budget_go_through_disk(tmp_path):
    limits = LimitSettings(memory_bytes=32 * MIB, spool_bytes=64 * MIB)
    async with (
        running_fake_s3(FakeS3()) as fake,
        store_at(fake.endpoint, limits=limits) as store,
    ):
        assert (await put(store, BUCKET, "l", chunks_of(LARGE), known=False)).created
        assert (await put(store, BUCKET, "m", chunks_of(LARGE))).created
        assert (await put(store, BUCKET, "s", LARGE[: 5 * MIB - 1])).created
        assert fake.objects["l"].body == fake.objects["m"].body == LARGE
        assert fake.objects["s"].body == LARGE[: 5 * MIB - 1]
        assert store.spool.peak_bytes >= 5 * MIB
        assert store.memory.peak_bytes <= 4 * MIB  # the short last part of a known length
        assert store.spool.used_bytes == 0
