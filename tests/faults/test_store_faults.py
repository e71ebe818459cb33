"""What is left in the store when something breaks: the whole object, or nothing, and no open upload."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from support.fake_s3 import FakeS3, running_fake_s3
from support.stores import MIB, meta_of, put, read, store_at
from workers.errors import (
    KeyNotRepresentable,
    StoreCorrupted,
    StoreDenied,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
)
from workers.settings import LimitSettings
from workers.store.guarantees import CreateOnly

if TYPE_CHECKING:
    from support.fake_s3 import Fault, Request

BUCKET = "site"
#: Three parts of 5 MiB, the last one short; every byte counts.
LARGE = bytes(range(256)) * (12 * MIB // 256)
SMALL = b"a small object"


def user(request: Request) -> bool:
    """Not one of Ferryman's own objects."""
    return not request.key.startswith(".ferryman/")


class Once:
    """A fault that strikes the n-th request of a kind."""

    def __init__(self, action: str, fault: Fault, *, at: int = 1, times: int = 1) -> None:
        self.action, self.fault, self.at, self.times = action, fault, at, times
        self.count = 0

    def __call__(self, request: Request) -> Fault | None:
        if request.action != self.action or not user(request):
            return None
        self.count += 1
        return self.fault if self.at <= self.count < self.at + self.times else None


def chunks_of(body: bytes) -> list[bytes]:
    return [body[start : start + 65536] for start in range(0, len(body), 65536)]


async def assert_nothing_left(fake: FakeS3) -> None:
    assert fake.uploads == {}
    assert [key for key in fake.objects if key.startswith(".ferryman/")] == []


# ---------------------------------------------------------------------- P20, G6


@pytest.mark.parametrize(
    ("mode", "expected", "inverted"),
    [
        ("obeys", CreateOnly.IF_NONE_MATCH, False),
        ("ignores", CreateOnly.CHECK_THEN_WRITE, False),
        ("inverts", CreateOnly.CHECK_THEN_WRITE, True),
    ],
)
async def test_p20_self_test_names_what_the_store_does_with_create_only(mode, expected, inverted):
    async with running_fake_s3(FakeS3(create_only=mode)) as fake, store_at(fake.endpoint) as store:
        found = await store.guarantees(BUCKET)
        assert (found.create_only, found.multipart_create_only) == (expected, expected)
        assert found.inverted is inverted
        assert found.race_free is (mode == "obeys")
        assert bool(found.warnings()) is not found.race_free or found.checksums == ()
        await assert_nothing_left(fake)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("x-oss-forbid-overwrite", CreateOnly.OSS), ("x-cos-forbid-overwrite", CreateOnly.COS)],
)
async def test_vendor_header_is_used_where_only_that_is_obeyed(header, expected):
    fake_s3 = FakeS3(create_only="ignores", forbid_header=header)
    async with running_fake_s3(fake_s3) as fake, store_at(fake.endpoint) as store:
        assert (await store.guarantees(BUCKET)).create_only is expected
        fake.place("taken", b"theirs")
        assert not (await put(store, BUCKET, "taken", SMALL)).created
        assert not (await put(store, BUCKET, "taken", LARGE)).created
        assert fake.objects["taken"].body == b"theirs"
        await assert_nothing_left(fake)


def half_guarded() -> FakeS3:
    """A PUT is create-only, completing parts is not, as in Ceph."""
    return FakeS3(create_only="obeys", complete_only="ignores")


#: No object of `LARGE`'s size fits one PUT: neither an eighth of the memory nor the disk takes it.
NARROW = LimitSettings(memory_bytes=64 * MIB, spool_bytes=MIB)


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
async def test_an_object_goes_in_one_put_where_only_that_is_create_only(known):
    """As far as memory and disk reach: a user's object of the last moment is safe then."""
    async with running_fake_s3(half_guarded()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.requests.clear()
        assert (await put(store, BUCKET, "free", chunks_of(LARGE), known=known)).created
        assert fake.objects["free"].body == LARGE
        fake.before_commit = lambda key: fake.place(key, b"the user's")
        assert not (await put(store, BUCKET, "raced", chunks_of(LARGE), known=known)).created
        assert fake.objects["raced"].body == b"the user's"
        assert {one.action for one in fake.requests} == {"put", "head"}
        assert (store.memory.used_bytes, store.spool.used_bytes) == (0, 0)


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
async def test_complete_that_ignores_create_only_is_guarded_by_a_look(known):
    async with running_fake_s3(half_guarded()) as fake, store_at(fake.endpoint, limits=NARROW) as store:
        found = await store.guarantees(BUCKET)
        assert found.create_only is CreateOnly.IF_NONE_MATCH
        assert found.multipart_create_only is CreateOnly.CHECK_THEN_WRITE
        assert found.prefers_one_put
        fake.place("taken", b"theirs")
        assert not (await put(store, BUCKET, "taken", chunks_of(LARGE), known=known)).created
        assert fake.objects["taken"].body == b"theirs"
        assert (await put(store, BUCKET, "free", chunks_of(LARGE), known=known)).created
        assert fake.objects["free"].body == LARGE
        last = [one.action for one in fake.requests if one.key == "free"]
        assert last[last.index("complete") - 1] == "head", "the look comes directly before"
        assert (store.memory.used_bytes, store.spool.used_bytes) == (0, 0)
        await assert_nothing_left(fake)


async def test_a_longer_object_of_unknown_length_becomes_parts_when_the_disk_is_full():
    limits = LimitSettings(memory_bytes=64 * MIB, spool_bytes=11 * MIB)
    async with running_fake_s3(half_guarded()) as fake, store_at(fake.endpoint, limits=limits) as store:
        await store.guarantees(BUCKET)
        assert (await put(store, BUCKET, "k", chunks_of(LARGE), known=False)).created
        assert fake.objects["k"].body == LARGE
        parts = [len(one.body) for one in fake.requests if one.action == "part" and one.key == "k"]
        assert sorted(parts) == [MIB, 11 * MIB]
        assert (store.memory.used_bytes, store.spool.used_bytes) == (0, 0)
        await assert_nothing_left(fake)


async def test_what_the_configuration_says_of_create_only_is_not_believed_of_parts():
    fake_s3 = half_guarded()
    async with (
        running_fake_s3(fake_s3) as fake,
        store_at(fake.endpoint, create_only="if-none-match") as store,
    ):
        fake.place("taken", b"theirs")
        assert not (await put(store, BUCKET, "taken", LARGE)).created
        assert fake.objects["taken"].body == b"theirs"


async def test_an_odd_key_that_is_answered_with_a_lasting_5xx_is_a_finding_and_not_the_end():
    """As `rclone serve s3` does of `a` beside `a/b`."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        fake.fault = lambda one: (500, "InternalError") if one.key.endswith("/n/a") else None
        found = await store.guarantees(BUCKET)
        assert found.unrepresentable == {"below_object"}
        assert (await put(store, BUCKET, "k", SMALL)).created


async def test_a_store_that_goes_away_during_the_self_test_has_proven_nothing():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        gone: list[str] = []

        def fault(one):
            if one.key.endswith("/n/a"):
                gone.append(one.key)
            return (500, "InternalError") if gone else None

        fake.fault = fault
        with pytest.raises(StoreUnavailable):
            await store.guarantees(BUCKET)


async def test_without_multipart_uploads_larger_objects_go_in_one_put():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        fake.fault = lambda one: (501, "NotImplemented") if one.action == "create" else None
        found = await store.guarantees(BUCKET)
        assert not found.multipart
        assert (await put(store, BUCKET, "k", LARGE)).created
        assert fake.objects["k"].body == LARGE


@pytest.mark.parametrize("mode", ["ignores", "inverts"])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one-put", "multipart"])
async def test_weak_store_is_checked_before_the_write(mode, body):
    async with running_fake_s3(FakeS3(create_only=mode)) as fake, store_at(fake.endpoint) as store:
        fake.place("taken", b"theirs")
        assert not (await put(store, BUCKET, "taken", body)).created
        assert fake.objects["taken"].body == b"theirs"
        assert (await put(store, BUCKET, "free", body)).created
        assert fake.objects["free"].body == body


# ---------------------------------------------------------------------- P19, S11


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one-put", "multipart"])
async def test_p19_user_who_writes_before_the_commit_keeps_his_bytes(body):
    """P19, S11: create-only, also between fetch and commit."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.before_commit = lambda key: fake.place(key, b"the user's")
        commit = await put(store, BUCKET, "k", body)
        assert not commit.created
        assert fake.objects["k"].body == b"the user's"
        await assert_nothing_left(fake)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one-put", "multipart"])
async def test_lost_answer_of_the_commit_is_recognised_as_our_own(body):
    """S11: the repeated request meets our own object; the attempt id says so."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put" if body is SMALL else "complete", "lose_answer", times=2)
        commit = await put(store, BUCKET, "k", body)
        assert commit.created
        assert fake.objects["k"].body == body
        assert fake.uploads == {}


async def test_lost_answer_of_every_attempt_is_found_by_a_last_look():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put", "lose_answer", times=100)
        assert (await put(store, BUCKET, "k", SMALL)).created


async def test_412_for_a_key_that_is_not_there_is_a_key_that_cannot_be_held():
    """S11, S17: 404 twice after a 412 is key_not_representable, never AlreadyPresent."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put", (412, "PreconditionFailed"), times=100)
        with pytest.raises(KeyNotRepresentable):
            await put(store, BUCKET, "k", SMALL)


async def test_409_that_means_try_again_is_tried_again():
    """S11: any other 409 is retried."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put", (409, "ConditionalRequestConflict"), times=2)
        assert (await put(store, BUCKET, "k", SMALL)).created
        fake.fault = Once("complete", (409, "ConditionalRequestConflict"))
        with pytest.raises(StoreUnavailable):  # from the start: the queue repeats the item
            await put(store, BUCKET, "m", LARGE)
        assert "m" not in fake.objects
        await assert_nothing_left(fake)


# ---------------------------------------------------------------------- each failure point


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


# ---------------------------------------------------------------------- parts on disk, listings


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


@pytest.mark.parametrize("fault", [(500, "InternalError"), "truncate", "cut"])
async def test_p31_listing_that_fails_on_page_three_raises(fault):
    """P31: an error is never taken for the end."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        for number in range(3500):
            fake.place(f"k{number:05}", b"")
        pages = [page async for page in store.list(BUCKET)]
        assert [len(page.objects) for page in pages] == [1000, 1000, 1000, 500]
        third = pages[1].continuation

        def broken(request: Request) -> Fault | None:
            return fault if request.query.get("continuation-token") == third else None

        fake.fault = broken
        seen = 0
        with pytest.raises(StoreUnavailable):
            async for page in store.list(BUCKET):
                seen += len(page.objects)
        assert seen == 2000
        fake.fault = None
        resumed = [page async for page in store.list(BUCKET, continuation=third)]
        assert sum(len(page.objects) for page in resumed) == 1500


async def test_body_that_breaks_off_is_no_whole_body():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        fake.place("k", LARGE)
        fake.fault = Once("get", "truncate", times=100)
        with pytest.raises(StoreUnavailable):
            await read(store, BUCKET, "k")
