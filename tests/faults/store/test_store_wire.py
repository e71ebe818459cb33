"""The client of short exchanges: a broken answer is an error, connections are kept or dropped rightly."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from support.origin.scripted import CLOSE, scripted
from workers.store.wire.lean import Wire


@contextlib.asynccontextmanager
async def server(*steps: bytes | list, idle_s: float = 0.3):
    """A wire to a server of scripted answers, the server's host, and what it saw."""
    async with scripted(*steps) as told:
        wire = Wire(limit=4, connect_s=2, idle_s=idle_s, tls=None)
        wire.open()
        try:
            yield wire, told.host, told.seen
        finally:
            await wire.close()


SILENCE = [60.0]
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "x"\r\n\r\nok'


async def test_length_chunks_head_and_no_content_are_read_to_their_end():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    none = b"HTTP/1.1 204 No Content\r\n\r\n"
    later = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    async with server(OK, chunked, head, none, later) as (wire, host, seen):
        first = await wire.exchange("GET", host, "/a//b?x=%2F", {"host": host}, b"")
        assert (first.status, first.body, first.headers["etag"]) == (200, b"ok", '"x"')
        assert (await wire.exchange("GET", host, "/", {}, b"")).body == b"abcde"
        headed = await wire.exchange("HEAD", host, "/", {}, b"")
        assert (headed.status, headed.headers["content-length"], headed.body) == (200, "999", b"")
        assert (await wire.exchange("DELETE", host, "/", {}, b"")).status == 204
        assert (await wire.exchange("PUT", host, "/", {}, b"body")).body == b"ok"
        assert {number for number, _ in seen} == {0}  # one connection served all
        assert seen[0][1].startswith(b"GET /a//b?x=%2F HTTP/1.1\r\n")
        assert seen[4][1].endswith(b"content-length: 4\r\n\r\nbody")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
    ],
)
async def test_broken_answer_is_an_error_and_never_a_short_body(answer):
    async with server([answer, CLOSE]) as (wire, host, _):
        with pytest.raises(OSError):
            await wire.exchange("GET", host, "/", {}, b"")


async def test_silence_ends_after_the_idle_time():
    async with server(SILENCE) as (wire, host, _):
        with pytest.raises(TimeoutError):
            await wire.exchange("GET", host, "/", {}, b"")


@pytest.mark.parametrize(("method", "repeated"), [("PUT", True), ("HEAD", True), ("POST", False)])
async def test_request_on_a_connection_that_the_server_closed_is_repeated_unless_it_is_a_post(
    method, repeated
):
    """A POST may have begun an upload, so its sender must know (P41)."""
    answer = OK if method != "HEAD" else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    async with server(OK, [CLOSE], answer) as (wire, host, seen):
        await wire.exchange("GET", host, "/", {}, b"")
        if repeated:
            assert (await wire.exchange(method, host, "/", {}, b"")).status == 200
            assert [number for number, _ in seen] == [0, 0, 1]
        else:
            with pytest.raises(OSError):
                await wire.exchange(method, host, "/", {}, b"")
            assert len(seen) == 2


async def test_cancelled_exchange_gives_its_connection_to_nobody():
    async with server(SILENCE, OK) as (wire, host, seen):
        task = asyncio.create_task(wire.exchange("GET", host, "/one", {}, b""))
        async with asyncio.timeout(5):
            while not seen:  # noqa: ASYNC110 -- the server's list is all there is to look at
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await wire.exchange("GET", host, "/two", {}, b"")).body == b"ok"
        assert [number for number, _ in seen] == [0, 1]


async def test_connections_stay_within_the_limit():
    async with server(*[OK] * 40) as (wire, host, seen):
        await asyncio.gather(*(wire.exchange("GET", host, "/", {}, b"") for _ in range(40)))
        assert len({number for number, _ in seen}) <= 4


async def test_a_place_is_neither_lost_nor_doubled_by_those_who_go_while_they_wait_or_as_they_get_it():
    async with server(*[SILENCE] * 4, *[OK] * 20, idle_s=30) as (wire, host, seen):
        silent = [asyncio.create_task(wire.exchange("GET", host, "/", {}, b"")) for _ in range(4)]
        async with asyncio.timeout(5):
            while len(seen) < 4:  # noqa: ASYNC110 -- the server's list is all there is to look at
                await asyncio.sleep(0.01)
        going, given, *staying = [
            asyncio.create_task(wire.exchange("GET", host, "/", {}, b"")) for _ in range(8)
        ]
        await asyncio.sleep(0)
        going.cancel()
        silent[0].cancel()
        # Behind the end of the first, and before who gets its place has woken.
        asyncio.get_running_loop().call_soon(given.cancel)
        answers = await asyncio.wait_for(asyncio.gather(*staying), 5)
        assert [answer.body for answer in answers] == [b"ok"] * 6
        assert len({number for number, _ in seen}) == 5  # three that are silent, one that went, one for all
        for task in silent:
            task.cancel()
        ended = await asyncio.gather(going, given, *silent, return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}
        await asyncio.gather(*(wire.exchange("GET", host, "/", {}, b"") for _ in range(12)))
        assert len({number for number, _ in seen}) <= 8


async def test_answer_that_says_close_is_not_reused():
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with server(closing, OK) as (wire, host, seen):
        await wire.exchange("GET", host, "/", {}, b"")
        await wire.exchange("GET", host, "/", {}, b"")
        assert [number for number, _ in seen] == [0, 1]


async def test_the_last_byte_of_a_request_waits_for_what_it_is_told_to():
    came = asyncio.Event()
    async with server(OK, OK, OK) as (wire, host, seen):
        for body in (b"body", b""):
            came.clear()
            seen.clear()
            task = asyncio.create_task(wire.exchange("PUT", host, "/", {}, body, waiting(came)))
            await asyncio.sleep(0.1)
            assert not seen
            came.set()
            assert (await task).body == b"ok"
            assert seen[0][1].endswith(b"\r\n\r\n" + body)
        assert (await wire.exchange("PUT", host, "/", {}, b"x")).status == 200
        assert {number for number, _ in seen} == {0}


async def test_a_request_whose_last_byte_is_not_to_be_sent_is_broken_off_and_its_connection_not_used_again():
    async def refuses() -> None:
        raise LookupError("no")

    async with server(OK) as (wire, host, seen):
        with pytest.raises(LookupError):
            await wire.exchange("PUT", host, "/", {}, b"body", refuses)
        assert (await wire.exchange("GET", host, "/two", {}, b"")).body == b"ok"
        assert [(number, request.split(b" ")[1]) for number, request in seen] == [(1, b"/two")]


async def test_an_answer_before_the_last_byte_is_the_answer_and_ends_its_connection():
    came = asyncio.Event()
    early = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with scripted(early, OK, read_bodies=False) as told:
        wire = Wire(limit=4, connect_s=2, idle_s=0.3, tls=None)
        wire.open()
        task = asyncio.create_task(wire.exchange("PUT", told.host, "/", {}, b"body", waiting(came)))
        await asyncio.sleep(0.1)
        came.set()
        assert (await task).status == 403
        assert (await wire.exchange("GET", told.host, "/", {}, b"")).status == 200
        assert told.connections == [0, 1]
        await wire.close()


async def test_a_kept_connection_that_ends_while_the_last_byte_waits_is_replaced_by_a_new_one():
    came = asyncio.Event()
    asked = 0

    async def told_twice() -> None:
        nonlocal asked
        asked += 1
        await came.wait()

    async with scripted([OK, 0.2, CLOSE], OK) as told:
        wire = Wire(limit=4, connect_s=2, idle_s=5, tls=None)
        wire.open()
        await wire.exchange("GET", told.host, "/", {}, b"")
        task = asyncio.create_task(wire.exchange("PUT", told.host, "/", {}, b"body", told_twice))
        await asyncio.sleep(0.5)
        came.set()
        assert (await task).body == b"ok"
        assert (asked, told.connections) == (2, [0, 1])
        await wire.close()


def waiting(event):
    async def wait() -> None:
        await event.wait()

    return wait
