"""An answer on a connection, however its bytes are cut; without any socket."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.http.answer import PAUSE_BYTES
from workers.http.connection import MAX_HEAD_BYTES, MAX_LINE_BYTES, Connection
from workers.http.fields import MAX_FIELD_BYTES, MAX_FIELDS


class Wire:
    """The transport of a connection, and its pool."""

    def __init__(self):
        self.sent = b""
        self.open = True
        self.paused = 0
        self.freed = 0
        self.connection = Connection(asyncio.get_running_loop())
        self.connection.connection_made(self)
        self.connection.free = self.free

    def free(self, connection):
        assert connection is self.connection
        self.freed += 1

    def write(self, data):
        self.sent += data

    def is_closing(self):
        return not self.open

    def close(self):
        self.open = False

    abort = close

    def pause_reading(self):
        self.paused += 1

    def resume_reading(self):
        self.paused -= 1

    def come(self, *pieces):
        for piece in pieces:
            if self.open:
                self.connection.data_received(piece)


async def body_of(exchange):
    return b"".join([piece async for piece in exchange.iter_chunked(1 << 20)])


def cut(data, places):
    ends = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


BODY = bytes(range(256)) * 3
CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (BODY[:1], BODY[1:500], BODY[500:]))
HEAD = b"HTTP/1.1 200 OK\r\nServer: s \r\nX-A:\r\nx-a: \xc3\xa4\xff\r\n"
ANSWERS = {
    "length": (HEAD + b"Content-Length: 768\r\n\r\n" + BODY, BODY),
    "empty": (HEAD + b"Content-Length: 0\r\n\r\n", b""),
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + b"0\r\n\r\n", BODY),
    "trailer": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + b"0\r\nX-T: 1\r\n\r\n", BODY),
    "hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        + HEAD
        + b"Content-Length: 768\r\n\r\n"
        + BODY,
        BODY,
    ),
    "no-content": (b"HTTP/1.1 204 No Content\r\nServer: s\r\nX-A:\r\nx-a: \xc3\xa4\xff\r\n\r\n", b""),
}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=4),
    st.lists(st.integers(min_value=0, max_value=4000), max_size=12),
)
def test_answers_one_after_another_come_whole_however_they_are_cut(names, places):
    """S2."""

    async def play():
        wire = Wire()
        for number, name in enumerate(names):
            data, body = ANSWERS[name]
            waiting = wire.connection.ask(b"GET", is_head=False)
            wire.come(*cut(data, places))
            exchange = await waiting
            assert exchange.pairs[:3] == (("Server", "s"), ("X-A", ""), ("x-a", "ä\udcff"))
            assert exchange.headers.getall("x-a") == ["", "ä\udcff"]
            assert not exchange.ascii
            assert (await body_of(exchange), exchange.is_whole) == (body, True)
            assert (wire.open, wire.freed, wire.paused) == (True, number + 1, 0)

    asyncio.run(play())


@settings(max_examples=50, deadline=None)
@given(
    st.integers(min_value=1, max_value=len(ANSWERS["chunked"][0]) - 1), st.sampled_from(["length", "chunked"])
)
def test_a_connection_that_ends_early_never_gives_a_whole_answer(place, name):
    """P1, P2."""

    async def play():
        wire = Wire()
        waiting = wire.connection.ask(b"GET", is_head=False)
        wire.come(ANSWERS[name][0][: min(place, len(ANSWERS[name][0]) - 1)])
        wire.connection.connection_lost(None)
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
            await body_of(await waiting)
        assert wire.freed == 0

    asyncio.run(play())


@pytest.mark.parametrize(("error", "reset"), [(None, False), (ConnectionResetError(104, "reset"), True)])
async def test_a_body_that_the_end_of_the_connection_ends_tells_a_reset(error, reset):
    """A3."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(HEAD + b"\r\nab", b"cd")
    exchange = await waiting
    assert await exchange.read() + await exchange.read() == b"abcd"
    wire.connection.connection_lost(error)
    assert await exchange.read() == b""
    assert exchange.was_reset is reset


async def test_what_came_before_a_break_is_given_out_before_the_error():
    """B6: it need not be asked for again."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(HEAD + b"Content-Length: 10\r\n\r\nabc", b"def")
    wire.connection.connection_lost(ConnectionResetError(104, "reset"))
    exchange = await waiting
    assert await exchange.read() == b"abc"
    assert await exchange.read() == b"def"
    for _ in range(2):
        with pytest.raises(aiohttp.ClientPayloadError):
            await exchange.read()


async def test_a_broken_chunk_reaches_who_waits_for_it_at_once():
    """A12."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    exchange = await waiting
    reading = asyncio.create_task(exchange.read())
    await asyncio.sleep(0)
    wire.come(b"zz\r\n")
    with pytest.raises(HttpProcessingError):
        await asyncio.wait_for(reading, 10)
    assert not wire.open


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_FIELD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 " + b"O" * (MAX_LINE_BYTES + 1) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
        b"no HTTP at all\r\n\r\n",
    ],
    ids=[
        "two-lengths", "length-and-chunks", "length-without-end", "null", "long-line", "many", "endless-line",
        "long-reason", "longer-than-said", "no-http",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [100_000_000, 1000])
async def test_a_head_that_cannot_be_trusted_is_no_answer(data, step):
    """S2, A9, A11."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(*[data[at : at + step] for at in range(0, len(data), step)])
    with pytest.raises(HttpProcessingError):
        await asyncio.wait_for(waiting, 10)
    assert not wire.open
    assert wire.freed == 0


@pytest.mark.parametrize("pieces", [(b"ab", b"cde"), (b"ab", b"cd\r\nmore")])
async def test_more_bytes_than_were_promised_break_a_body(pieces):
    """S2."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(HEAD + b"Content-Length: 4\r\n\r\n" + pieces[0])
    exchange = await waiting
    wire.come(*pieces[1:])
    with pytest.raises(HttpProcessingError):
        await body_of(exchange)
    assert (wire.open, wire.freed) == (False, 0)


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"])
@pytest.mark.parametrize("place", [None, 3])
async def test_a_second_answer_behind_the_first_ends_the_connection(after, place):
    """S2: it would be taken for the next request's."""
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    data = HEAD + b"Content-Length: 4\r\n\r\n"
    body = b"abcd" + after
    wire.come(data + body) if place is None else wire.come(data + body[:place], body[place:])
    assert await body_of(await waiting) == b"abcd"
    assert (wire.open, wire.freed) == ((True, 1) if not after else (False, 0))


async def test_bytes_that_nobody_asked_for_end_an_idle_connection():
    wire = Wire()
    waiting = wire.connection.ask(b"HEAD", is_head=True)
    wire.come(HEAD + b"Content-Length: 4\r\n\r\n")
    exchange = await waiting
    assert (exchange.content_length, await exchange.read(), wire.freed) == (4, b"", 1)
    wire.come(b"abcd")
    assert not wire.open
    with pytest.raises(aiohttp.ClientOSError):
        wire.connection.ask(b"GET", is_head=False)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"], ids=["1.0", "close"]
)
async def test_a_connection_that_the_server_will_end_is_not_used_again(head):
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(head + b"Content-Length: 2\r\n\r\nok")
    assert await body_of(await waiting) == b"ok"
    assert (wire.open, wire.freed) == (False, 0)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_no_more_is_held_than_the_bound_while_nobody_reads(framing):
    """Memory is a budget."""
    wire, piece, pieces = Wire(), bytes(100_000), 30
    waiting = wire.connection.ask(b"GET", is_head=False)
    said = {
        "length": b"Content-Length: 3000000\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"",
    }
    wire.come(b"HTTP/1.1 200 OK\r\n" + said[framing] + b"\r\n")
    exchange = await waiting
    got = held = most = 0
    left = pieces
    while left or held:
        while left and not wire.paused:
            wire.come(b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            left -= 1
            held += len(piece)
        most = max(most, held)
        chunk = await exchange.read()
        got += len(chunk)
        held -= len(chunk)
    assert got == 3_000_000
    assert most < PAUSE_BYTES + 2 * len(piece)
    assert not wire.paused


async def test_an_exchange_that_is_closed_ends_its_connection_and_who_still_reads_is_told():
    wire = Wire()
    waiting = wire.connection.ask(b"GET", is_head=False)
    wire.come(HEAD + b"Content-Length: 4\r\n\r\nab")
    exchange = await waiting
    exchange.close()
    assert not wire.open
    with pytest.raises(aiohttp.ClientConnectionError):
        await exchange.read()
