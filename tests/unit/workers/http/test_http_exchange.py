"""What is sent to an origin, byte for byte, before any connection is involved."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from workers.http.exchange import Exchanger, _render
from workers.origin.wire.connector import GuardedConnector
from workers.origin.wire.guard import Guard

FIXED = {"Accept-Encoding": "identity", "User-Agent": "ferryman/1"}


@pytest.fixture
async def exchanger():
    connector = GuardedConnector(Guard.of(()), configured=False, tls=True, check_names=False)
    one = Exchanger(connector, FIXED, server_hostname=None)
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://a.example/x", "a.example", "/x"),
        ("http://a.example", "a.example", "/"),
        ("https://a.example:8443/x%2fy//z?q=%20#part", "a.example:8443", "/x%2fy//z?q=%20"),
        ("http://a.example:80/x", "a.example", "/x"),
        ("https://a.example:443/x", "a.example", "/x"),
        ("http://A.example/X", "A.example", "/X"),
        ("http://a.example?q=1", "a.example", "/?q=1"),
        ("http://[::1]:81/x", "[::1]:81", "/x"),
        ("http://a.example/../x/./y", "a.example", "/../x/./y"),
    ],
)
async def test_a_path_is_sent_as_it_is_spelled(exchanger, url, host, target):
    for _ in range(2):  # the second time the route is known
        route, found = exchanger.route(url)
        assert (route.host, found) == (host, target)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/x",
        "//a/x",
        "/x",
        "http:///x",
        "http://u:p@a/x",
        "http://a/x\r\nX-Evil: 1",
        "http://a:b/x",
        "",
    ],
)
async def test_what_is_no_origin_url_is_refused(exchanger, url):
    with pytest.raises(ValueError):
        exchanger.route(url)


async def test_routes_of_many_hosts_are_forgotten_again(exchanger):
    for number in range(1001):
        exchanger.route(f"http://h{number}.example/x")
    assert len(exchanger._routes) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), "Host: h|Accept-Encoding: identity|User-Agent: ferryman/1"),
        ([("user-agent", "x")], "Host: h|Accept-Encoding: identity|user-agent: x"),
        ([("HOST", "other")], "HOST: other|Accept-Encoding: identity|User-Agent: ferryman/1"),
        (
            [("X-A", "1"), ("x-a", "2"), ("accept", "image/*")],
            "Host: h|Accept-Encoding: identity|User-Agent: ferryman/1|X-A: 1|x-a: 2|accept: image/*",
        ),
    ],
)
def test_headers_of_the_request_take_the_place_of_fixed_ones(headers, expected):
    """H5."""
    assert _render("h", FIXED, headers) == ("\r\n".join(expected.split("|")) + "\r\n\r\n").encode()


@pytest.mark.parametrize("header", [("X-A", "1\r\nX-B: 2"), ("X-A\n", "1"), ("X-A", "\0")])
def test_a_header_that_would_break_the_request_is_refused(header):
    with pytest.raises(ValueError, match="line break"):
        _render("h", FIXED, [header])


async def test_a_connection_serves_one_request_after_another_and_none_after_it_was_closed():
    met = []

    async def serve(reader, writer):
        met.append(writer)
        while not reader.at_eof():
            head = await reader.readuntil(b"\r\n\r\n")
            early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
            writer.write(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            writer.write(b"" if head.startswith(b"HEAD") else b"o" if b"/half" in head else b"ok")

    connector = GuardedConnector(Guard.of(()), configured=True, tls=True, check_names=False)
    pool = Exchanger(connector, FIXED, server_hostname=None)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        route, target = pool.route(f"{base}/x")
        for method, body in (("GET", b"ok"), ("HEAD", b""), ("GET", b"ok")):
            answer = await pool.send(method, route, target, None)
            assert (answer.status, answer.content_length) == (200, 2)
            assert b"".join([piece async for piece in answer.iter_chunked(1)]) == body
            assert answer.transport is None
        assert len(met) == 1
        half = await pool.send("GET", *pool.route(f"{base}/half"), None)
        half.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await half.read()
        await (await pool.send("GET", route, target, None)).read()
        assert len(met) == 2
        await pool.close()
        for writer in met:
            writer.close()


@asynccontextmanager
async def serving(answer):
    """A server that gives each request's answer; every connection has ended when it is left."""
    begun = ended = 0

    async def serve(reader, writer):
        nonlocal begun, ended
        begun += 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        ended += 1

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(10):
            while ended < begun:  # noqa: ASYNC110 -- counted, not told
                await asyncio.sleep(0.01)


async def test_an_answer_that_falls_silent_fails_and_one_that_nobody_takes_does_not():
    """A slow reader is no silent server."""

    def answer(head):
        begin = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"
        return begin + bytes(4_000_000 if b"/whole" in head else 10)

    connector = GuardedConnector(Guard.of(()), configured=True, tls=True, check_names=False)
    pool = Exchanger(connector, FIXED, idle_s=0.3)
    async with serving(answer) as base:
        whole = await pool.send("GET", *pool.route(f"{base}/whole"), None)
        silent = await pool.send("GET", *pool.route(f"{base}/silent"), None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter_after(silent, 10)), 30)
        assert sum([len(piece) async for piece in whole.iter_chunked(1 << 20)]) == 4_000_000
        await pool.close()


async def aiter_after(exchange, n_bytes):
    """Its pieces after so many bytes."""
    while n_bytes:
        n_bytes -= len(await exchange.read())
    while piece := await exchange.read():
        yield piece


async def test_connections_that_nobody_uses_are_closed_and_a_pool_that_is_closed_has_none():
    connector = GuardedConnector(Guard.of(()), configured=True, tls=True, check_names=False)
    pool = Exchanger(connector, FIXED)
    async with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as base:
        route, target = pool.route(f"{base}/x")
        request = pool.render("GET", route, target, None)
        both = [await pool.connect(route) for _ in range(2)]
        for connection in both:
            await (await pool.ask(connection, request, is_head=False)).read()
        assert list(route.idle) == both
        both[0].moved_at -= 31
        pool._look()
        assert list(route.idle) == [both[1]]
        assert pool.take(route) is both[1]
        await (await pool.ask(both[1], request, is_head=False)).read()
        await pool.close()
        assert not any(connection.is_connected() for connection in both)


async def pool_of(limit):
    connector = GuardedConnector(Guard.of(()), configured=True, tls=True, check_names=False)
    return Exchanger(connector, FIXED, limit=limit)


async def test_who_finds_every_connection_in_use_gets_the_first_that_comes_free():
    pool = await pool_of(2)
    async with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as base:
        route, target = pool.route(f"{base}/x")
        request = pool.render("GET", route, target, None)
        first, second = [await pool.connect(route) for _ in range(2)]
        waiting = [asyncio.create_task(pool.send("GET", route, target, None)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in waiting)
        waiting.pop(0).cancel()  # who goes takes nothing along
        await (await pool.ask(first, request, is_head=False)).read()
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert [await answer.read() for answer in answers] == [b"ok", b"ok"]
        assert pool._open == 2
        second.close()
        first.close()
        assert pool._open == 0
        await pool.close()


async def test_a_connection_that_ends_or_cannot_be_made_lets_the_next_one_be_made():
    pool = await pool_of(1)
    async with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as base:
        route, target = pool.route(f"{base}/x")
        held = await pool.connect(route)
        waiting = asyncio.create_task(pool.send("GET", route, target, None))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        held.close()
        await (await asyncio.wait_for(waiting, 10)).read()
        # That one is idle now, and gives way to another host.
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError):
                await asyncio.wait_for(pool.send("GET", *pool.route("http://127.0.0.1:1/x"), None), 10)
        assert pool._open == 0
        await pool.close()
