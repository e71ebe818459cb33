"""The old servers: they give what `content` says, count what they are asked for, and misbehave on demand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from torture.content import at_origin, body_of
from torture.schedule import Kind

if TYPE_CHECKING:
    from torture.oracle import Oracle

_STALLED_S = 20.0
_SINCE = 1_700_000_000


class OldServer:
    """One origin; `fault` may be set at any time."""

    def __init__(self, name: str, oracle: Oracle, *, seed: int) -> None:
        self.name = name
        self.port = 0
        self.fault: Kind | None = None
        self.requests = 0
        #: Requests at this moment, and the most that were at once since `peak` was last set to 0.
        self.open = 0
        self.peak = 0
        self._oracle = oracle
        self._chance = random.Random(f"{name} {seed}")

    async def start(self) -> None:
        """Serve on a free port of the loopback address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            return await self._of_key(request, unquote(request.raw_path.split("?")[0]).lstrip("/"))
        except ConnectionError:  # whoever asked is gone
            return web.Response(status=500)
        finally:
            self.open -= 1

    async def _of_key(self, request: web.Request, key: str) -> web.StreamResponse:
        # A fault hits most requests, not all: what gets through is as interesting.
        fault = self.fault if self._chance.random() < 0.8 else None
        if fault is Kind.ORIGIN_STALL:
            await asyncio.sleep(_STALLED_S)
            return web.Response(status=504)
        if fault is Kind.ORIGIN_STATUS:
            return web.Response(status=self._chance.choice((500, 502, 503)), headers={"Retry-After": "1"})
        if not at_origin(key):
            return web.Response(status=404)
        version = self._oracle.version(key)
        body = body_of(key, version)
        headers = {
            "ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(_SINCE + version)),
            "Content-Type": "application/octet-stream",
            "Content-MD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        }
        status, wanted = 200, request.http_range
        same = request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        if (wanted.start is not None or wanted.stop is not None) and body and same:
            start, stop, _ = slice(wanted.start, wanted.stop).indices(len(body))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            headers.pop("Content-MD5")
            body, status = body[start:stop], 206
        elif fault is Kind.ORIGIN_LIE and body:  # only where a digest goes along: nobody can see it else
            body = bytes([body[0] ^ 1]) + body[1:]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if fault is Kind.ORIGIN_CUT and body:
            await response.write(body[: self._chance.randrange(len(body))])
            await asyncio.sleep(0.01)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write(body)
        return response
