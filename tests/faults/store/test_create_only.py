"""Nobody's bytes are overwritten: what the self-test finds out of create-only writes, and races for a key."""

from __future__ import annotations

import contextlib

import pytest

from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.store_faults import BUCKET, LARGE, SMALL, Once, assert_nothing_left, chunks_of
from support.store.stores import MIB, meta_of, put, store_at
from workers.errors import (
    KeyNotRepresentable,
    StoreError,
    StoreUnavailable,
)
from workers.settings import LimitSettings
from workers.store.guarantees import CreateOnly

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


@pytest.mark.parametrize("action", ["create", "part", "complete", "abort"])
async def test_a_store_that_does_not_answer_a_trial_of_parts_has_not_shown_that_it_has_none(action):
    """Else every object of more than one part would be refused for as long as the process lives."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        fake.fault = lambda one: "cut" if one.action == action else None
        with pytest.raises(StoreUnavailable):
            await store.guarantees(BUCKET)
        fake.fault = None
        assert (await store.guarantees(BUCKET)).multipart


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


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one-put", "multipart"])
@pytest.mark.parametrize(
    ("fault", "at_large"),
    [
        ("cut", True),
        ((500, "InternalError"), True),
        ((503, "SlowDown"), True),
        ((403, "AccessDenied"), False),
        (None, False),
    ],
)
async def test_what_the_store_gave_no_answer_to_may_yet_appear(body, fault, at_large):
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, max_retries=0) as store:
        await store.guarantees(BUCKET)
        if fault is not None:
            fake.fault = Once("put" if body is SMALL else "complete", fault, times=100)
        upload = store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=len(body))
        with contextlib.suppress(StoreError):
            async with upload:
                for piece in chunks_of(body):
                    await upload.write(piece)
                assert not upload.at_large
                await upload.commit()
        assert upload.at_large is at_large
        assert ("k" in fake.objects) is (fault is None)


async def test_what_was_not_asked_for_is_not_at_large():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, max_retries=0) as store:
        await store.guarantees(BUCKET)
        upload = store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=10)
        with pytest.raises(StoreError):
            async with upload:
                await upload.write(b"short")
                await upload.commit()
        assert not upload.at_large


@pytest.mark.parametrize(("body", "at_large"), [(SMALL, True), (LARGE, False)], ids=["one-put", "multipart"])
async def test_a_try_without_an_answer_may_yet_appear_though_a_later_one_came_about(body, at_large):
    """But not the parts: the later one has used them up."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        fake.fault = Once("put" if body is SMALL else "complete", (500, "InternalError"), times=1)
        upload = store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=len(body))
        async with upload:
            for piece in chunks_of(body):
                await upload.write(piece)
            assert (await upload.commit()).created
        assert upload.at_large is at_large
