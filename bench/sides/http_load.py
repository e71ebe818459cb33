"""Load for a gateway on loopback: closed (so many connections, each as fast as it is answered) and open loop.

Owns the client's side only: bounded in count and time by its callers, fails on any answer but 200.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Load(asyncio.Protocol):
    """One keep-alive connection that asks for one path after the other."""

    def __init__(
        self,
        next_path: Callable[[], str | None],
        done: Callable[[float, int], None],
        headers: str = "",
    ) -> None:
        """`headers`: further lines of each request, each with its end."""
        self.next_path = next_path
        self.done = done
        self.headers = headers
        self.data = bytearray()
        self.need = 0
        self.began = 0.0
        self.first = 0.0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.ask()

    def ask(self) -> None:
        path = self.next_path()
        if path is None:
            self.finish()
            return
        self.began, self.first = time.perf_counter(), 0.0
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self.headers}\r\n".encode())

    def finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if not self.first:
            self.first = time.perf_counter() - self.began
        self.data += data
        if not self.need:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.data[:end]).lower()
            at = head.index(b"content-length:") + 15
            self.need = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
            self.status = int(head[9:12])
        if len(self.data) >= self.need:
            self.data.clear()
            self.need = 0
            self.done(self.first, self.status)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            peer = self.transport.get_extra_info("peername")
            self.over.set_exception(ConnectionError(f"{peer} closed: {bytes(self.data[:200])!r} {exc!r}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a load came to: never none, so that figures can be divided by it."""

    count: int
    rate: float


async def closed_loop(
    port: int, paths: Iterator[str], *, connections: int, seconds: float | None = None, headers: str = ""
) -> Answered:
    """So many connections, for `seconds` (and at least one request) or until the paths end."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else time.perf_counter() + seconds
    asked = count = 0

    def next_path() -> str | None:
        nonlocal asked
        if until is not None and asked and time.perf_counter() > until:
            return None
        asked += 1
        return next(paths, None)

    def done(_first: float, status: int) -> None:
        nonlocal count
        assert status == 200, status
        count += 1

    began = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Load(next_path, done, headers), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.over for client in clients))
    if not count:
        raise SystemExit("a load without a request: give it objects")
    return Answered(count=count, rate=count / (time.perf_counter() - began))


async def open_loop(port: int, paths: list[str], *, rate: float) -> list[float]:
    """Seconds to the first byte, one request every 1/rate seconds, whatever the answers do."""
    loop = asyncio.get_running_loop()
    firsts: list[float] = []
    idle: list[Load] = []
    tasks: list[asyncio.Future[None]] = []

    class Single(Load):
        def ask(self) -> None:
            pass

    async def one(path: str) -> None:
        client = idle.pop() if idle else None
        if client is None:
            _, client = await loop.create_connection(
                lambda: Single(lambda: None, lambda *_: None), "127.0.0.1", port
            )
        answered = loop.create_future()
        client.done = lambda first, status: answered.set_result((first, status))
        client.began, client.first = time.perf_counter(), 0.0
        client.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        first, status = await answered
        assert status == 200, status
        firsts.append(first)
        idle.append(client)

    began = loop.time()
    for number, path in enumerate(paths):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        tasks.append(asyncio.ensure_future(one(path)))
    await asyncio.gather(*tasks)
    for client in idle:
        client.over.cancel()
        client.transport.close()
    return firsts


def cycle(paths: list[str]) -> Iterator[str]:
    while True:
        yield from paths
