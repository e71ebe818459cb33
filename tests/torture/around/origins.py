"""The old servers: they give what `content` says, count what they are asked for, and misbehave on demand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import socket
import time
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from support.flow import Flow
from torture.content import at_origin, body_of, has_digest
from torture.schedule import Kind

if TYPE_CHECKING:
    from torture.oracle import Oracle
    from workers.settings import BudgetSettings

STALLED_S = 20.0
#: Seconds' worth of a rate that may come at once: what a bucket and each asker hold, and what a busy machine
#: brings late.
_AT_ONCE_S = 2.0
#: Bytes of one answer that are given away before anybody has read them, and of a piece of it.
_ON_THE_WAY = 2 << 20
_PIECE = 64 << 10
#: Seconds after which too many requests are still too many.
_SEEN_S = 0.5
_SINCE = 1_700_000_000


class OldServer:
    """One origin; `fault` may be set at any time."""

    def __init__(self, name: str, oracle: Oracle, *, seed: int, budget: BudgetSettings) -> None:
        assert budget.concurrency
        assert budget.requests_per_s
        assert budget.bytes_per_s
        self.name = name
        self.port = 0
        self.fault: Kind | None = None
        #: Until then more than the budget is nobody's fault: who is frozen holds connections longer than its
        #: lease, a Redis that forgot leases gives the slots away once more, what stood still comes at once.
        self.excused_until = 0.0
        self._budget = budget.concurrency
        self._requests = Flow(budget.requests_per_s, budget.requests_per_s * _AT_ONCE_S)
        self._bytes = Flow(
            budget.bytes_per_s, budget.bytes_per_s * _AT_ONCE_S + budget.concurrency * _ON_THE_WAY
        )
        #: Requests that are being answered, by their number.
        self._open: dict[int, web.Request] = {}
        self._numbers = count()
        self._looks: set[asyncio.Task[None]] = set()
        self._oracle = oracle
        self._chance = random.Random(f"{name} {seed}")

    async def start(self) -> None:
        """Serve on a free port of the loopback address."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)  # those that it takes have it, too
        await web.SockSite(self._runner, listening).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        number = next(self._numbers)
        self._open[number] = request
        if len(self._live()) > self._budget:
            look = asyncio.get_running_loop().create_task(self._look(self._live()))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        self._flows(self._requests, 1, "requests")
        try:
            # A fault hits most requests, not all: what gets through is as interesting.
            fault = self.fault if self._chance.random() < 0.8 else None
            if fault is Kind.ORIGIN_STATUS:
                return web.Response(status=self._chance.choice((500, 502, 503)), headers={"Retry-After": "1"})
            key = unquote(request.raw_path.split("?")[0]).lstrip("/")
            return await self._of_key(number, request, key, fault)
        except ConnectionError:  # whoever asked is gone
            return web.Response(status=500)
        finally:
            self._open.pop(number, None)

    def _live(self) -> set[int]:
        """Those whose asker is still there."""
        return {
            number
            for number, one in self._open.items()
            if one.transport is not None and not one.transport.is_closing()
        }

    async def _look(self, then: set[int]) -> None:
        """Whether they are still too many a moment later: an end may be read after another's beginning."""
        await asyncio.sleep(_SEEN_S)
        still = len(self._live() & then)
        if still > self._budget and time.monotonic() > self.excused_until:
            self._oracle.violated(f"{self.name}: {still} requests at once, its budget is {self._budget}")

    def _flows(self, flow: Flow, amount: int, what: str) -> None:
        now = time.monotonic()
        if now < self.excused_until:
            flow.forgive()
        elif over := flow.add(now, amount):
            self._oracle.violated(f"{self.name}: {over:.0f} {what} more than {flow.rate:.0f} a second")

    async def _of_key(
        self, number: int, request: web.Request, key: str, fault: Kind | None
    ) -> web.StreamResponse:
        if fault is Kind.ORIGIN_STALL:
            await asyncio.sleep(STALLED_S)
            return web.Response(status=504)
        if key.startswith("bad/"):
            return web.Response(status=403)
        if not at_origin(key):
            return web.Response(status=404)
        version = self._oracle.version(key)
        body = body_of(key, version)
        if key.startswith("race/"):  # so that others come in between
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
        digest = hashlib.md5(body, usedforsecurity=False)
        headers = {
            "ETag": f'"{digest.hexdigest()}"' if has_digest(key) else f'"version-{version}"',
            "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(_SINCE + version)),
            "Content-Type": "application/octet-stream",
        }
        if has_digest(key):
            headers["Content-MD5"] = base64.b64encode(digest.digest()).decode()
        status, wanted = 200, request.http_range
        same = request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        if (wanted.start is not None or wanted.stop is not None) and body and same:
            start, stop, _ = slice(wanted.start, wanted.stop).indices(len(body))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            headers.pop("Content-MD5", None)
            body, status = body[start:stop], 206
        elif (
            fault is Kind.ORIGIN_LIE and body and has_digest(key)
        ):  # only where a digest goes along: nobody can see it else
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
        for at in range(0, len(body), _PIECE):
            if at + _PIECE >= len(body):
                self._open.pop(number, None)  # its last bytes may be read before this coroutine goes on
            self._flows(self._bytes, len(body[at : at + _PIECE]), "bytes")
            await response.write(body[at : at + _PIECE])
        return response
