"""The sample origin: an HTTP server over the sample files that counts what it is asked.

It can be stopped and started again on the same port, as origins do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from scheduler.demo.content import SLOW_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.demo.content import Sample

#: How the slow object is sent: pieces, and seconds between them.
_SLOW_PIECES = 20
_SLOW_PAUSE_S = 0.1


class SampleOrigin:
    """Serves `samples` on a loopback port that stays the same over stops and starts."""

    def __init__(self, samples: Mapping[str, Sample]) -> None:
        self._samples = samples
        self._runner: web.AppRunner | None = None
        self.port = 0
        #: Whole and partial GETs by key.
        self.requests: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; on the port of last time when there was one."""
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        key = unquote(request.rel_url.raw_path.removeprefix("/"))
        if request.method == "GET":
            self.requests[key] += 1
        sample = self._samples.get(key)
        if sample is None:
            raise web.HTTPNotFound(text="no such page\n")
        if key == SLOW_KEY and request.method == "GET":
            return await self._slowly(request, sample)
        return web.FileResponse(sample.path, headers=dict(sample.headers))

    async def _slowly(self, request: web.Request, sample: Sample) -> web.StreamResponse:
        body = sample.path.read_bytes()
        response = web.StreamResponse(headers={**dict(sample.headers), "Content-Length": str(len(body))})
        await response.prepare(request)
        piece = -(-len(body) // _SLOW_PIECES)
        for start in range(0, len(body), piece):
            await response.write(body[start : start + piece])
            await asyncio.sleep(_SLOW_PAUSE_S)
        await response.write_eof()
        return response
