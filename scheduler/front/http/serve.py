"""Serving an ASGI application over HTTP until told to stop.

Owns the uvicorn settings that the gateway and the admin side share, and the order of ending: no new request,
then time for the running ones. Knows neither of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import structlog
import uvicorn

from scheduler.front.http.protocol import StrictProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

log = structlog.get_logger()

_HAS_BODY = frozenset({b"content-length", b"transfer-encoding"})
#: Between two looks whether what still runs at the end is done.
_LOOK_S: Final = 0.02


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and its looking ten times a second whether it should end: whoever
    runs us says so by `stop`.
    """

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event, name: str) -> None:
        super().__init__(config)
        self._stop = stop
        self._name = name

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Until `stop`; the date of answers is of this second."""
        while not self._stop.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new connection; requests that run have `timeout_graceful_shutdown`, then they are cancelled."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        state = self.server_state
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                told: set[Any] = set()
                while True:  # once at least: one that was just accepted is not among them yet
                    for connection in state.connections - told:
                        connection.shutdown()
                        told.add(connection)
                    await asyncio.sleep(_LOOK_S)
                    if not state.connections and not state.tasks:
                        break
        except TimeoutError:
            log.warning("requests_broken_off", server=self._name, requests=len(state.tasks))
            for task in state.tasks:
                task.cancel()


async def serve_admin(
    app: Any, sockets: Sequence[socket.socket], stop: asyncio.Event, *, drain_s: float
) -> None:
    """Serve an application of the admin side, which wants its paths decoded, as `serve` does.

    Heads are as bounded and as strict as the gateway's: whoever reaches the port has no token yet.
    """

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = unquote(scope["path"])
        unread = any(name in _HAS_BODY for name, _ in scope["headers"])

        async def receiving() -> Any:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def sending(message: Any) -> None:
            if unread and message["type"] == "http.response.start":
                # An answer that comes before the whole body ends the connection: the rest may have no end.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receiving, sending)

    await serve(admin, sockets, stop, protocol=StrictProtocol, drain_s=drain_s, name="admin")


async def serve(
    app: Any,
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    *,
    protocol: type[StrictProtocol],
    drain_s: float,
    name: str,
    **options: Any,
) -> None:
    """Serve until `stop` is set; running requests then get `drain_s` seconds.

    `name` is the server's in the log; `options` are further settings of `uvicorn.Config`.
    """
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(drain_s)),
        http=protocol,
        **options,
    )
    await _Server(config, stop, name).serve(sockets=list(sockets))
