"""A server ends when it is told, as soon as nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import structlog

from scheduler.front.http.protocol import StrictProtocol
from scheduler.front.http.serve import serve
from scheduler.machine.listen import bind
from support.patience import PATIENCE_S

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(app, *, drain_s=PATIENCE_S):
    """Its port, what tells it to end, and its task."""
    sock, stop = bind("test", "127.0.0.1:0"), asyncio.Event()
    port = sock.getsockname()[1]
    task = asyncio.create_task(
        serve(app, [sock], stop, protocol=StrictProtocol, drain_s=drain_s, name="test")
    )
    try:
        yield port, stop, task
    finally:
        stop.set()
        await task


async def answer_at_once(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_a_server_that_nobody_asks_ends_at_once():
    took_s = []
    for _ in range(5):
        async with serving(answer_at_once) as (port, stop, task):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            assert b"\r\ndate: " in (await reader.readuntil(b"\r\n\r\nok")).lower()
            begun = time.monotonic()
            stop.set()
            await task
            took_s.append(time.monotonic() - begun)
            assert await reader.read() == b""  # the connection was kept for more, and is closed
            writer.close()
    assert min(took_s) < 0.09


async def test_a_request_that_runs_gets_its_answer_and_no_new_connection_is_taken():
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        asked.set()
        await go_on.wait()
        await answer_at_once(scope, receive, send)

    async with serving(slow) as (port, stop, task):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await asked.wait()
        stop.set()
        deadline = time.monotonic() + PATIENCE_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                _, another = await asyncio.open_connection("127.0.0.1", port)
                another.close()
                await asyncio.sleep(0.01)
            pytest.fail("new connections are taken")
        assert not task.done()
        go_on.set()
        assert (await reader.read()).endswith(b"\r\n\r\nok")
        writer.close()


async def test_a_request_that_outlasts_the_drain_is_broken_off_and_the_log_says_so():
    asked, broken_off = asyncio.Event(), asyncio.Event()

    async def endless(_scope, _receive, _send):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            broken_off.set()

    with structlog.testing.capture_logs() as lines:
        async with serving(endless, drain_s=1) as (port, stop, _):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            await asked.wait()
            stop.set()
            await broken_off.wait()
            writer.close()
    assert {"event": "requests_broken_off", "log_level": "warning", "server": "test", "requests": 1} in lines
