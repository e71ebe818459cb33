"""The old bucket, which is written back to: an origin that clients' writes and deletes have to reach.

Owns what it has had of each key, and when. What it is given must be what clients wrote; requests are believed
without their signature.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import defaultdict
from hashlib import md5
from typing import TYPE_CHECKING, Final

from aiohttp import web

from support.store.fake_s3 import FakeS3, Request
from torture.around.origins import STALLED_S, OldServer
from torture.content import BACK, N_BACK, at_origin, body_of
from torture.oracle import ABSENT, LEASED_S, value_of
from torture.schedule import Kind

if TYPE_CHECKING:
    from torture.oracle import Oracle
    from workers.settings import BudgetSettings

OLD_BUCKET: Final = "old"
#: Seconds for which a write that was given up may still be under way to us.
_UNDER_WAY_S: Final = LEASED_S + 2 * STALLED_S


class OldBucket(OldServer):
    """One origin that is a bucket; `fault` may be set at any time."""

    def __init__(self, name: str, oracle: Oracle, *, seed: int, budget: BudgetSettings) -> None:
        super().__init__(name, oracle, seed=seed, budget=budget)
        self._s3 = FakeS3()
        self._history: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        #: How often it was changed.
        self.changes = 0
        for key in (f"{group}{n}" for group in BACK for n in range(N_BACK)):
            if at_origin(key):
                self._s3.place(key, body_of(key), **{"content-type": "application/octet-stream"})
                self._history[key].append((0.0, value_of(body_of(key))))

    def contents(self) -> dict[str, str]:
        """Every key with what it holds."""
        return {key: value_of(one.body) for key, one in self._s3.objects.copy().items()}

    def now(self, key: str) -> str:
        """What it has of a key."""
        found = self._s3.objects.get(key)
        return ABSENT if found is None else value_of(found.body)

    def had(self, key: str, since: float) -> set[str]:
        """All that it has had of a key from a time on, and what was under way to it then."""
        if not key.startswith(BACK):
            return {value_of(body_of(key))} if at_origin(key) else set()
        found = self._oracle.possible(key, since - _UNDER_WAY_S)
        for at, value in reversed(self._history[key].copy()):
            found.add(value)
            if at < since:
                break
        return found - {ABSENT}

    async def _of_key(
        self, number: int, request: web.Request, key: str, fault: Kind | None
    ) -> web.StreamResponse:
        asked = Request(
            request.method, key.removeprefix(OLD_BUCKET).removeprefix("/"), dict(request.query),
            {name.lower(): value for name, value in request.headers.items()}, await request.read(),
        )  # fmt: skip
        if fault is Kind.ORIGIN_STALL:  # and then does it, whether somebody is still there or not
            await asyncio.sleep(STALLED_S)
        if fault is Kind.ORIGIN_CUT and self._chance.random() < 0.3:
            self._break_off(request)
            return web.Response()
        status, headers, content = self._done(asked)
        self._open.pop(number, None)  # its answer may be read before this coroutine goes on
        if fault is Kind.ORIGIN_CUT:  # the answer is lost, the effect is not
            self._break_off(request)
            return web.Response()
        headers.pop("Content-Length", None)
        if asked.action == "get" and status == 200:
            headers["Content-MD5"] = base64.b64encode(md5(content).digest()).decode()
            if fault is Kind.ORIGIN_LIE and content:
                content = bytes([content[0] ^ 1]) + content[1:]
        return web.Response(status=status, headers=headers, body=content)

    def _done(self, asked: Request) -> tuple[int, dict[str, str], bytes]:
        digest = asked.headers.get("content-md5")
        if digest is not None and digest != base64.b64encode(md5(asked.body).digest()).decode():
            return self._s3._error(400, "BadDigest")
        if "tagging" in asked.query:  # nobody sets any
            return 200, {}, b"<Tagging><TagSet/></Tagging>"
        if asked.action in {"create", "part", "put"} and not asked.key.startswith(BACK):
            self._oracle.violated(f"{self.name}: {asked.key} is written, which is no key of its own")
        answer = self._s3._do(asked)
        if asked.action in {"put", "delete", "complete"} and answer[0] < 300:
            self._changed(asked.key)
        return answer

    def _changed(self, key: str) -> None:
        self.changes += 1
        value = self.now(key)
        self._history[key].append((time.monotonic(), value))
        # Who is slow may bring what has been overwritten since, as long as the last one comes after it.
        if key.startswith(BACK) and value not in self._oracle.possible(key, 0.0):
            self._oracle.violated(f"{self.name}: {key} got what nobody wrote{self._oracle.story(key)}")

    @staticmethod
    def _break_off(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()
