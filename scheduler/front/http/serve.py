"""Serving an ASGI application over HTTP until told to stop.

Owns the uvicorn settings that the gateway and the admin side share, and the order of ending: no new request,
then time for the running ones. Knows neither of them.
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


async def serve(
    app: Any,
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    *,
    drain_s: float,
    name: str = "admin",
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
