"""The real gateway as the SDKs of the tests see it: in a thread, on its own port, every request remembered.

Its store is whatever the settings say; rule documents never ask it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scheduler.front.gateway import Gateway
from scheduler.front.server import serve_app
from scheduler.machine.listen import bind
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config.settings import Settings


@dataclass
class WireServer:
    """A running gateway; `requests` are (method, path, query, headers) as they arrived."""

    port: int
    requests: list[tuple[str, bytes, bytes, dict[str, str]]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def remembering(self, app: Any) -> Any:
        async def remember(scope: Any, receive: Any, send: Any) -> None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self.requests.append((scope["method"], scope["raw_path"], scope["query_string"], headers))
            await app(scope, receive, send)

        return remember


@contextlib.contextmanager
def running_wire_server(settings: Settings) -> Iterator[WireServer]:
    """The gateway of `settings` on a free port of 127.0.0.1, file rules applied, until the block ends."""
    sock = bind("gateway", "127.0.0.1:0")
    server = WireServer(port=sock.getsockname()[1])
    ready = threading.Event()
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        async with open_services(settings, installation="test") as services, Gateway(services) as gateway:
            await apply_file_rules(services.rules, settings)
            ready.set()  # the socket takes connections from here on
            await serve_app(server.remembering(gateway), [sock], stop, settings=settings.gateway, drain_s=2.0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="gateway", daemon=True)
    sock.listen()
    thread.start()
    try:
        assert ready.wait(30), "the gateway did not start"
        yield server
    finally:
        for loop, stop in stopping:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        sock.close()
