"""The misbehaving origin inside a test: `async with ChaosOrigin() as chaos` or, for blocking tests, `with`.

    chaos.put("/img/a.jpg", b"...")                      an object
    chaos.url("/truncate,at=700/img/a.jpg")              a behaviour by path
    chaos.script("/img/a.jpg", "status,code=503", "ok")  a sequence, the last step repeats
    chaos.count("/img/a.jpg"), chaos.asked("/img/a.jpg") how often, and with which headers

`with` runs the server in a thread of its own, so that child processes and blocking calls can use it.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

import pytest

from scheduler.chaos.content import generated_body
from scheduler.chaos.server import ChaosServer, LoggedRequest

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path


class ChaosOrigin:
    """A ChaosServer on a free port of 127.0.0.1, with the questions that tests ask."""

    def __init__(
        self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, root: Path | None = None
    ) -> None:
        self.server = ChaosServer(host=host, tls=tls, root=root)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-origin", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def host(self) -> str:
        """`host:port`, as a rule names an origin."""
        return self.server.authority

    @property
    def port(self) -> int:
        return self.server.port

    def url(self, path: str = "") -> str:
        return self.server.url + path

    def put(self, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Register an object under a decoded path; `headers` replace the default ones of the same name."""
        self.server.put(path, body, headers)

    def remove(self, path: str) -> None:
        self.server.shelf.remove(path)

    def script(self, path: str, *steps: str) -> None:
        self.server.script(path, *steps)

    def forget(self) -> None:
        self.server.forget()

    def body(self, name: str, size: int = 16 * 1024) -> bytes:
        """What is generated for the object's path (without the behaviour's segment)."""
        return generated_body(name, size)

    @property
    def requests(self) -> list[LoggedRequest]:
        return list(self.server.requests)

    def asked(self, path: str | None = None) -> list[LoggedRequest]:
        """Requests of one decoded path, or all of them."""
        return [entry for entry in self.requests if path is None or entry.path == path]

    def count(self, path: str | None = None) -> int:
        return len(self.asked(path))


@pytest.fixture
async def chaos() -> AsyncIterator[ChaosOrigin]:
    """A misbehaving origin on the test's own loop."""
    async with ChaosOrigin() as origin:
        yield origin


@pytest.fixture
def chaos_thread() -> Iterator[ChaosOrigin]:
    """A misbehaving origin in a thread of its own, for tests that block or start processes."""
    with ChaosOrigin() as origin:
        yield origin
