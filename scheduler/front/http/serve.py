"""Serving an ASGI application over HTTP until told to stop.

Owns the uvicorn settings that the gateway and the admin side share, and the order of ending: no new request,
then time for the running ones. Knows neither of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import uvicorn

from scheduler.front.http.protocol import StrictProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence


_HAS_BODY = frozenset({b"content-length", b"transfer-encoding"})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs us decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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

    `name` is that of the tasks; `options` are further settings of `uvicorn.Config`.
    """
    server = _Server(
        uvicorn.Config(
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
    )
    serving = asyncio.create_task(server.serve(sockets=list(sockets)), name=name)
    stopping = asyncio.create_task(stop.wait(), name=f"{name}-stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        server.should_exit = True
        if not serving.done():
            serving.cancel()
            await asyncio.wait({serving})
