"""Serving an ordinary ASGI application (the admin side) until told to stop.

Owns the uvicorn settings of that. The object gateway has its own server with a stricter protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs us decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: Any, sockets: Sequence[socket.socket], stop: asyncio.Event, *, drain_s: float) -> None:
    """Serve until `stop` is set; running requests then get `drain_s` seconds."""
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
        )
    )
    serving = asyncio.create_task(server.serve(sockets=list(sockets)), name="admin")
    stopping = asyncio.create_task(stop.wait(), name="admin-stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        if not serving.done():
            serving.cancel()
            await asyncio.wait({serving})
