"""Stores that say odd bytes or lie, and disks that are full: whole or absent, and nothing stays held."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.origin.scripted import CLOSE, scripted
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.stores import MIB, meta_of, put, read, store_at
from workers.errors import KeyNotRepresentable, StoreError, StoreThrottled, StoreUnavailable
from workers.plan import AlreadyPresent, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import LimitSettings
from workers.store.guarantees import CreateOnly, StoreGuarantees
from workers.store.wire import checksums
from workers.transfer import Mover, Try

if TYPE_CHECKING:
    from support.store.fake_s3 import Fault, Request

BUCKET = "site"
LARGE = bytes(range(256)) * (12 * MIB // 256)
STRONG = StoreGuarantees(
    create_only=CreateOnly.IF_NONE_MATCH, multipart_create_only=CreateOnly.IF_NONE_MATCH, checksums=("md5",)
)


def user(request: Request) -> bool:
    return not request.key.startswith(".ferryman/")


# ---------------------------------------------------------------------- the weak check


async def test_a_weak_store_is_looked_at_before_every_try_not_only_the_first():
    """S11: the user's write falls between our first try, which the store refused, and the second."""
    async with running_fake_s3(FakeS3(create_only="ignores")) as fake, store_at(fake.endpoint) as store:
        await store.guarantees(BUCKET)
        tries = 0

        def busy(request: Request) -> Fault | None:
            nonlocal tries
            if request.action != "put" or not user(request):
                return None
            tries += 1
            if tries == 1:
                fake.place("k", b"the user's")
                return (503, "SlowDown")
            return None

        fake.fault = busy
        assert not (await put(store, BUCKET, "k", b"ours")).created
        assert fake.objects["k"].body == b"the user's"
        assert tries == 1


@pytest.mark.parametrize("size", [5, 12 * MIB], ids=["one-put", "multipart"])
async def test_a_replacement_looks_directly_before_it_commits(size):
    """S12: a store without If-Match; the user writes while our parts are on their way."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        first = await put(store, BUCKET, "k", b"one")
        store.assume(BUCKET, STRONG)

        def blind(request: Request) -> Fault | None:
            request.headers.pop("if-match", None)
            if request.action == "part" and request.query["partNumber"] == "3":
                fake.place("k", b"the user's")
            return None

        fake.fault = blind
        done = await put(store, BUCKET, "k", LARGE[:size], replace_etag=first.etag)
        if size == 5:
            assert done.created
            assert fake.objects["k"].body == LARGE[:5]
        else:
            assert not done.created
            assert fake.objects["k"].body == b"the user's"
        assert fake.uploads == {}


async def test_the_lost_answer_of_a_replacement_is_recognised_without_if_match():
    """S11, S12: what is there now has another ETag, because it is ours."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        first = await put(store, BUCKET, "k", b"one")
        store.assume(BUCKET, STRONG)
        lost = []

        def lose(request: Request) -> Fault | None:
            if request.action == "put" and user(request) and not lost:
                lost.append(request)
                return "lose_answer"
            return None

        fake.fault = lose
        assert (await put(store, BUCKET, "k", b"two", replace_etag=first.etag)).created
        assert fake.objects["k"].body == b"two"


# ---------------------------------------------------------------------- what is held is given back


async def test_a_spool_directory_that_cannot_be_written_holds_no_budget(tmp_path):
    """Memory and disk are budgets: a failure gives back what was reserved, and is one of the tree's."""
    (tmp_path / "file").write_text("no directory")
    limits = LimitSettings(memory_bytes=32 * MIB, spool_bytes=64 * MIB)
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, limits=limits) as store:
        store.assume(BUCKET, STRONG)
        store.spool_dir = tmp_path / "file" / "spool"
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="disk"):
                await put(store, BUCKET, "k", LARGE)
        assert store.spool.used_bytes == 0
        assert store.memory.used_bytes == 0


async def test_a_full_disk_is_a_failure_that_is_tried_again(monkeypatch):
    limits = LimitSettings(memory_bytes=32 * MIB, spool_bytes=64 * MIB)
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, limits=limits) as store:
        store.assume(BUCKET, STRONG)
        with pytest.raises(StoreUnavailable) as caught:
            async with store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=len(LARGE)) as upload:
                upload._part._spool.file.close()
                upload._part._spool.file = Path("/dev/full").open("wb", buffering=0)  # noqa: ASYNC230, SIM115
                await upload.write(LARGE[:65536])
        assert caught.value.retryable
        assert store.spool.used_bytes == 0


@pytest.mark.parametrize("where", ["single", "part"])
async def test_a_digest_of_a_part_on_disk_can_be_cancelled(monkeypatch, where):
    """The cancellation stays one: no error about the file that a thread still reads."""
    slow = asyncio.Event()
    loop = asyncio.get_running_loop()
    digest = checksums._digest

    def slowly(name, chunks):
        loop.call_soon_threadsafe(slow.set)
        time.sleep(0.3)  # a thread that cannot be interrupted
        return digest(name, chunks)

    monkeypatch.setattr(checksums, "_digest", slowly)
    limits = LimitSettings(memory_bytes=32 * MIB, spool_bytes=64 * MIB)
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, limits=limits) as store:
        store.assume(BUCKET, STRONG)
        body = LARGE[: 5 * MIB] if where == "single" else LARGE
        task = asyncio.create_task(put(store, BUCKET, "k", body))
        await slow.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.user_keys() == set()
        assert fake.uploads == {}
        assert (store.spool.used_bytes, store.memory.used_bytes) == (0, 0)
        await asyncio.sleep(0.4)  # the thread ends; it must find its bytes where they were


async def test_parts_that_never_began_give_their_memory_back():
    """A part is handed over and the upload left in the same moment: its task never runs."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        with pytest.raises(ZeroDivisionError):
            async with store.upload(BUCKET, "k", meta_of("a"), attempt="a", size=None) as upload:
                await upload.write(LARGE[: 5 * MIB])
                await upload.write(LARGE[: 5 * MIB + 1])
                raise ZeroDivisionError
        assert store.memory.used_bytes == 0
        assert fake.uploads == {}


async def test_a_reservation_too_small_for_the_part_is_no_deadlock():
    """Fact 6: eight uploads that hold a little each ask for more than is free, and all finish."""
    limits = LimitSettings(memory_bytes=64 * MIB)
    async with (
        running_fake_s3(FakeS3()) as fake,
        store_at(fake.endpoint, limits=limits, part_size_bytes=8 * MIB) as store,
    ):
        store.assume(BUCKET, STRONG)

        async def one(number: int) -> bool:
            lease = await store.reserve(7 * MIB)
            await asyncio.sleep(0)
            async with store.upload(
                BUCKET, f"k{number}", meta_of("a"), attempt="a", size=None, lease=lease
            ) as upload:
                await upload.write(LARGE[: 9 * MIB])
                return (await upload.commit()).created

        async with asyncio.timeout(60):
            assert all(await asyncio.gather(*(one(number) for number in range(12))))
        assert store.memory.used_bytes == 0


# ---------------------------------------------------------------------- odd bytes


DONE = b"<R><ETag>&quot;0123&quot;</ETag></R>"


@pytest.mark.parametrize("blanks", [b"\n\n   ", b' \r\n<?xml version="1.0" encoding="UTF-8"?>\n'])
async def test_blanks_before_the_answer_of_a_completion_are_patience(blanks):
    """S13: stores send them so that nobody takes a long completion for silence."""

    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        complete = fake._complete

        def patient(request):
            status, headers, body = complete(request)
            return status, headers, blanks + body

        fake._complete = patient
        looks = fake.seen["complete"]
        assert (await put(store, BUCKET, "k", LARGE)).created
        assert fake.seen["complete"] == looks + 1


async def test_an_error_document_behind_blanks_is_read():
    body = b"  \n<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>"
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with scripted(*[answer] * 4) as server, store_at(f"http://{server.host}") as store:
        with pytest.raises(StoreThrottled):
            await store.transport.exchange("GET", BUCKET)


@pytest.mark.parametrize("encrypted", ["aws:kms", "customer", "none"])
async def test_an_etag_that_is_no_md5_does_not_condemn_the_object(encrypted):
    """A bucket may encrypt by its own default: the store says so, and its ETags are no digests then."""
    shown = {
        "aws:kms": {"x-amz-server-side-encryption": "aws:kms"},
        "customer": {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        "none": {},
    }[encrypted]
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, STRONG)
        do = fake._do

        def other_etags(request):
            status, headers, body = do(request)
            if request.action in {"put", "part"}:
                headers = {**headers, **shown, "ETag": '"' + "ab" * 16 + '"'}
            if request.action == "complete":
                headers = {**headers, **shown}
                body = b"<R><ETag>&quot;" + b"cd" * 16 + b"-3&quot;</ETag></R>"
            return status, headers, body

        fake._do = other_etags
        for key, body in (("s", b"small"), ("l", LARGE)):
            if encrypted == "none":
                with pytest.raises(StoreError, match=r"match|instead"):
                    await put(store, BUCKET, key, body)
                assert key not in fake.objects
            else:
                assert (await put(store, BUCKET, key, body)).created


async def test_a_refusal_that_comes_before_the_body_was_read_is_read():
    """S11: a store answers 412 at once and hangs up; the body was never taken."""
    refused = b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    theirs = b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "e"\r\n\r\n'
    steps = [
        [refused, CLOSE],
        theirs,
        [refused, CLOSE],
        theirs,
        [refused, CLOSE],
        theirs,
        [refused, CLOSE],
        theirs,
    ]
    async with scripted(*steps, read_bodies=False) as server, store_at(f"http://{server.host}") as store:
        store.assume(BUCKET, STRONG)
        commit = await put(store, BUCKET, "k", LARGE[: 5 * MIB - 1])
        assert not commit.created
        assert commit.etag == "e"


async def test_a_body_of_the_store_that_only_ends_with_its_connection_is_not_taken_for_whole():
    """Guarantee 6: nobody can know."""
    answer = b'HTTP/1.1 200 OK\r\nETag: "e"\r\n\r\nhalf a bo'
    async with scripted([answer, CLOSE]) as server, store_at(f"http://{server.host}") as store:
        with pytest.raises(StoreUnavailable):
            await read(store, BUCKET, "k")


async def test_a_second_answer_in_the_same_packet_is_not_the_next_requests():
    """S11: a HEAD that was answered by somebody else's answer would say that the object is there."""
    two = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    ghost = b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "ghost"\r\n\r\n'
    async with scripted(two + ghost, two, two) as server, store_at(f"http://{server.host}") as store:
        assert await store.head(BUCKET, "k") is None
        assert await store.head(BUCKET, "k") is None
        assert server.connections == [0, 1]


async def test_a_header_without_end_is_cut_off():
    async with (
        scripted([b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000, b"a" * 300_000, 5.0]) as server,
        store_at(f"http://{server.host}", max_retries=0, read_timeout_s=3.0) as store,
    ):
        with pytest.raises(StoreUnavailable, match="long"):
            await store.head(BUCKET, "k")


# ---------------------------------------------------------------------- S17


async def test_s17_a_key_that_the_store_gives_for_another_is_not_present():
    """S17: a retry looks first; the store shows `a/b`, a user's, for `a//b`."""
    plan = FetchPlan(bucket=BUCKET, rule="r", groups=(OriginGroup(primary=Origin(host="127.0.0.1:1")),))

    class Asked(Exception):
        pass

    class NoFetcher:
        def session(self, *_, **__):
            raise Asked

    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        store.assume(BUCKET, StoreGuarantees(unrepresentable=frozenset({"double_slash"})))
        fake.place("a//b", b"what the store shows")
        fake.place("a/c", b"an ordinary one")

        async def look(key: str):
            mover = Mover(fetcher=NoFetcher(), store=store, now=lambda: None)
            looking = Try(attempt="a", look_first=True)
            return await mover.move(plan, FetchItem(key=key, path=key), looking, lane=Lane.COLD)

        with pytest.raises(Asked):  # goes on to the upload, which names the failure
            await look("a//b")
        assert isinstance(await look("a/c"), AlreadyPresent)
        with pytest.raises(KeyNotRepresentable):
            await put(store, BUCKET, "a//b", b"x")


async def test_bytes_that_nobody_asked_for_are_not_the_next_objects_body():
    """Guarantee 6: two answers to one GET; the second serves no other key."""
    first = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "a"\r\n\r\nfirst'
    ghost = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "b"\r\n\r\nghost'
    true = b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "c"\r\n\r\ntrue'
    async with (
        scripted([first, 0.05, ghost], true, true) as server,
        store_at(f"http://{server.host}") as store,
    ):
        assert await read(store, BUCKET, "one") == b"first"
        await asyncio.sleep(0.2)  # the late bytes are to arrive before the next request
        assert await read(store, BUCKET, "two") == b"true"
        assert server.connections == [0, 1]


# ---------------------------------------------------------------------- the self-test


async def test_who_asks_while_the_self_test_runs_shares_its_result():
    """A store that is away is tried once for all who wait, not once for each in turn."""
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint, max_retries=0) as store:
        fake.fault = lambda _: (500, "InternalError")
        done = await asyncio.gather(*(store.guarantees(BUCKET) for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in done} == {StoreUnavailable}
        assert fake.seen["put"] == 1
        fake.fault = None
        found = await asyncio.gather(*(store.guarantees(BUCKET) for _ in range(20)))
        assert {one.create_only for one in found} == {CreateOnly.IF_NONE_MATCH}
        assert len({request.key.split("/")[2] for request in fake.requests if "/probe/" in request.key}) == 2


async def test_who_leaves_the_self_test_ends_it_for_nobody_else():
    async with running_fake_s3(FakeS3()) as fake, store_at(fake.endpoint) as store:
        first = asyncio.create_task(store.guarantees(BUCKET))
        second = asyncio.create_task(store.guarantees(BUCKET))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).proven
        assert first.cancelled()
