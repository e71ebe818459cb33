"""Serving the gateway: sockets that several processes share, start, and a stop that drains.

Owns the life of the HTTP server. What a request means is `gateway`'s, how it is read is `protocol`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from scheduler.front.gateway import Gateway
from scheduler.front.protocol import HeadLimits, StrictProtocol
from scheduler.settings import split_listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scheduler.runtime import Services
    from scheduler.settings import GatewaySettings

log = structlog.get_logger()

#: Connections the kernel holds for us before they are accepted.
BACKLOG = 2048


def listen_socket(listen: str, *, share: bool = False) -> socket.socket:
    """A listening socket for `host:port`; `share` lets other processes bind the same port (SO_REUSEPORT).

    Raises:
        OSError: the address is in use or not ours.
    """
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs us decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_gateway(services: Services, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serve the object gateway on these sockets until `stop`; then drain clients, pulls and jobs, in this
    order.
    """
    settings = services.settings
    async with Gateway(services) as gateway:
        await serve_app(gateway, sockets, stop, settings=settings.gateway, drain_s=settings.limits.drain_s)


async def serve_app(
    app: Any,
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    *,
    settings: GatewaySettings,
    drain_s: float,
) -> None:
    """Serve a raw ASGI application until `stop` is set; then no new request, and `drain_s` for the running
    ones.
    """

    class Protocol(StrictProtocol):
        limits = HeadLimits(max_bytes=settings.max_header_bytes, timeout_s=settings.header_timeout_s)

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(settings.keep_alive_s),
        timeout_graceful_shutdown=max(1, int(drain_s)),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)), name="gateway")
    stopping = asyncio.create_task(stop.wait(), name="gateway-stop")
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
        log.info("gateway_stopped")
