"""Serving the gateway: start, and a stop that drains clients, pulls and jobs.

Owns what the gateway asks of its HTTP server. What a request means is `gateway`'s, how it is read is
`protocol`'s, how any application is served is `serve`'s.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import structlog

from scheduler.front.gateway import Gateway
from scheduler.front.http.protocol import HeadLimits, StrictProtocol
from scheduler.front.http.serve import serve
from scheduler.machine.listen import BACKLOG
from workers.collector import spare_what_lasts

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Sequence

    from scheduler.config.settings import GatewaySettings
    from scheduler.runtime import Services

log = structlog.get_logger()


async def serve_gateway(services: Services, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serve the object gateway on these sockets until `stop`; then drain clients, pulls and jobs, in this
    order.
    """
    settings = services.settings
    async with Gateway(services) as gateway:
        spare_what_lasts()
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

    try:
        with warnings.catch_warnings():
            # What is odd in a client's form, Python would print and remember, each one for ever.
            warnings.filterwarnings("ignore", module="aiohttp.multipart")
            await serve(
                app,
                sockets,
                stop,
                drain_s=drain_s,
                name="gateway",
                protocol=Protocol,
                backlog=BACKLOG,
                timeout_keep_alive=int(settings.keep_alive_s),
            )
    finally:
        log.info("gateway_stopped")
