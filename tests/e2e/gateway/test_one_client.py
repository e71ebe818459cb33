"""F61: what an origin means for one client is given to that client, to nobody else, and not stored."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from support.gateway import until

if TYPE_CHECKING:
    from support.gateway import Front, Reply


pytestmark = pytest.mark.real

PASSING = [{"pass_all": True}, {"pass": ["Cookie"]}]


class Greeter:
    """An origin that greets by Cookie; `gate` holds its answers back."""

    def __init__(self, *head: str, status: int = 200) -> None:
        self.head = head
        self.status = status
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.first = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = dict(line.lower().split(": ", 1) for line in request.split("\r\n")[1:] if line)
                who = lines.get("cookie", "nobody")
                self.asked.append(who)
                self.first.set()
                await self.gate.wait()
                body = f"hello {who}".encode()
                head = [f"HTTP/1.1 {self.status} X", f"Content-Length: {len(body)}", *self.head]
                writer.write("\r\n".join([*head, "", ""]).encode())
                writer.write(b"" if request.startswith("HEAD") else body)
                await writer.drain()
        writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def together(self, front: Front, count: int) -> list[Reply]:
        """Answers to clients that ask while the first one waits for its own."""
        self.gate.clear()
        asking = [asyncio.create_task(front.get("/k", {"Cookie": f"c={n}"})) for n in range(count)]
        await self.first.wait()
        fill = front.gateway.parts.herd.running(front.bucket, "k")
        assert fill is not None

        async def all_wait() -> bool:
            return fill.followers == count

        await until(all_wait)
        self.gate.set()
        return await asyncio.gather(*asking)


@pytest.fixture
async def greet(mirror, start):
    """Start an origin with these headers, and a gateway whose rule leads to it."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*head, request=PASSING[0], status=200, **sections):
            origin = Greeter(*head, status=status)
            server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
            stack.push_async_callback(origin.stop)
            stack.callback(server.close)
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            rule = mirror(request=request, origin={"hosts": [{"host": host}]}, **sections)
            return origin, await start(rule)

        yield begin


@pytest.mark.parametrize("request_", PASSING, ids=["pass_all", "pass"])
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Cache-Control: private", "private"),
        ("Cache-Control: no-store", "no_store"),
        ("Vary: Cookie", "vary"),
    ],
)
async def test_each_client_gets_its_own_and_nothing_is_stored(greet, request_, head, reason):
    origin, front = await greet(head, request=request_)
    with capture_logs() as lines:
        for who in ("a=1", "b=2", None):
            reply = await front.get("/k", {"Cookie": who} if who else {})
            assert (reply.status, reply.text) == (200, f"hello {who or 'nobody'}")
        await front.idle()
    assert await front.stored("k") is None
    assert await front.queued() == 0
    assert origin.asked == ["a=1", "b=2", "nobody"]
    assert {line["reason"] for line in lines if line["event"] == "not_stored"} == {reason}


async def test_who_waits_for_the_same_key_gets_its_own_too(greet):
    """A24 ends where the answer is one client's."""
    origin, front = await greet("Cache-Control: private")
    replies = await origin.together(front, 5)
    assert [reply.text for reply in replies] == [f"hello c={n}" for n in range(5)]
    await front.idle()
    assert await front.stored("k") is None


@pytest.mark.parametrize("status", [403, 302])
async def test_a_refusal_or_redirect_of_one_client_is_no_answer_for_another(greet, status):
    origin, front = await greet(
        "Location: /login", status=status, request={"pass_all": True, "follow_redirects": False},
        answer={"transparent": "all"},
    )  # fmt: skip
    assert {reply.status for reply in await origin.together(front, 3)} == {status}
    assert sorted(origin.asked) == ["c=0", "c=1", "c=2"]


async def test_a_404_for_one_client_is_not_remembered_for_others(greet):
    """L14, A6."""
    origin, front = await greet("Cache-Control: private", status=404, answer={"transparent": [404]})
    for who in ("a=1", "b=2"):
        reply = await front.get("/k", {"Cookie": who})
        assert (reply.status, reply.text) == (404, f"hello {who}")
    assert origin.asked == ["a=1", "b=2"]


async def test_a_range_of_it_queues_no_pull(greet):
    """A15, A16."""
    _, front = await greet("Cache-Control: private")
    reply = await front.get("/k", {"Cookie": "a=1", "Range": "bytes=6-"})
    assert (reply.status, reply.text) == (206, "a=1")
    await front.idle()
    assert (await front.queued(), await front.stored("k")) == (0, None)


async def test_a_rule_may_say_that_it_is_for_all(greet):
    """F61."""
    origin, front = await greet("Cache-Control: private", store={"private": True})
    assert (await front.get("/k", {"Cookie": "a=1"})).text == "hello a=1"
    await front.idle()
    assert await front.stored("k") == b"hello a=1"
    assert origin.asked == ["a=1"]


@pytest.mark.parametrize("head", ["Cache-Control: public, max-age=9", "Vary: Accept-Encoding", "X-A: b"])
async def test_what_a_shared_cache_may_keep_is_stored(greet, head):
    _, front = await greet(head)
    await front.get("/k", {"Cookie": "a=1"})
    await front.idle()
    assert await front.stored("k") == b"hello a=1"


async def test_what_anybody_gets_is_moved_whatever_it_says_of_caches(greet):
    """Without passed headers the answer is everybody's."""
    _, front = await greet("Cache-Control: private, no-store", "Vary: *", request={"protocol": "http"})
    assert (await front.get("/k", {"Cookie": "a=1"})).text == "hello nobody"
    await front.idle()
    assert await front.stored("k") == b"hello nobody"


async def test_caches_on_the_way_are_told_on_what_it_depends(greet):
    _, front = await greet("Vary: Cookie")
    assert (await front.get("/k", {"Cookie": "a=1"})).headers["vary"] == "Cookie"
