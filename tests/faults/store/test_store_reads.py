"""Reading objects from a store that ends connections, falls silent, or says what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.origin.scripted import CLOSE, RESET, scripted
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.store_faults import BUCKET, LARGE, Once
from support.store.stores import read, store_at
from workers.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from support.store.fake_s3 import Fault, Request

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "x"\r\n\r\nok'
NONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
SILENCE = [60.0]


async def body_of(store, key="k"):
    async with await store.get("site", key) as response:
        return response.status, await response.read()


async def test_objects_absences_and_ranges_share_one_connection():
    chunked = b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nETag: x\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with scripted(OK, NONE, chunked, OK) as told, store_at(f"http://{told.host}") as store:
        assert await body_of(store) == (200, b"ok")
        assert await body_of(store) == (404, b"none")
        async with await store.get("site", "a//b c", headers=[("Range", "bytes=0-2")]) as response:
            assert await response.read() == b"abc"
        assert await body_of(store) == (200, b"ok")
        assert told.connections == [0, 0, 0, 0]
        assert told.heads[2].startswith("GET /site/a//b%20c HTTP/1.1\r\n")
        assert "range: bytes=0-2\r\n" in told.heads[2].lower()
        assert told.heads[0].lower().count("\r\nhost:") == 1


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_a_connection_that_the_store_closed_meanwhile_costs_no_pause(end):
    async with (
        scripted(OK, [end], OK) as told,
        store_at(f"http://{told.host}", max_retries=0) as store,  # repeated at once is no retry
    ):
        assert await body_of(store) == (200, b"ok")
        assert await body_of(store) == (200, b"ok")
        assert told.connections == [0, 0, 1]


async def test_a_body_that_is_left_unread_is_never_taken_for_the_next_answer():
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: x\r\n\r\n" + b"." * 500_000
    async with scripted(large, OK) as told, store_at(f"http://{told.host}") as store:
        async with await store.get("site", "k"):
            pass
        assert await body_of(store) == (200, b"ok")
        assert told.connections == [0, 1]


async def test_a_silent_store_is_given_up_after_its_time_before_and_within_the_body():
    half = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: x\r\n\r\nhalf", 60.0]
    async with (
        scripted(SILENCE, half) as told,
        store_at(f"http://{told.host}", read_timeout_s=0.3, max_retries=0) as store,
    ):
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable):
                await store.get("site", "k")
            async with await store.get("site", "k") as response:
                with pytest.raises(StoreUnavailable):
                    await response.read()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: x\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nETag: x\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: x\r\n\r\n5\r\nab",
    ],
)
async def test_a_broken_answer_is_an_error_of_the_store_and_never_a_short_body(answer):
    async with scripted([answer, CLOSE]) as told, store_at(f"http://{told.host}", max_retries=0) as store:
        with pytest.raises(StoreError):
            await body_of(store)


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
