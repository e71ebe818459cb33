"""What this front process has answered: counters, and the per-minute record that proves it was watching.

Owns counting. The ledger gets sums every few seconds and one record a minute, even when all is zero: the
finalize gate takes a missing minute for a front that nobody was looking through (`workers.ledger.minutes`). A
ledger that is away costs the clients nothing; what could not be written is written with the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import Counter, deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from workers.background import end
from workers.errors import described
from workers.origin.control.latency import BOUNDS_S
from workers.telemetry import metrics

if TYPE_CHECKING:
    from scheduler.dispatch.dependency import DependencyRecorder
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from workers.ledger.ledger import Ledger

log = structlog.get_logger()

#: How the request of the present task was answered, for its metric.
_kind: ContextVar[str] = ContextVar("ferryman_answer_kind", default="other")
#: Seconds between two rounds to the ledger.
FLUSH_S = 5.0
#: Minutes whose counts are remembered: a clock that is set by less comes upon none that it would write anew.
REMEMBERED_MINUTES = 120
#: Seconds of a minute within which the one before is written again, for a Redis that forgot its last second.
_AGAIN_S = 2 * FLUSH_S
#: Minutes that are kept while the ledger is away.
MAX_BACKLOG = 8 * 24 * 60
#: Answers for which the origin was still needed: what the finalize gate must not see any more.
NEEDS_ORIGIN = frozenset({
    "origin", "head", "redirect", "proxied", "passed_redirect", "transparent", "async_status",
})  # fmt: skip
#: Answers whose first-byte times are kept for the page, and as what.
_TIMED = {"hit": "hit", **dict.fromkeys(NEEDS_ORIGIN, "miss")}


class GatewayStats:
    """Counters of one process."""

    def __init__(
        self, ledger: Ledger | None, *, instance: str, dependency: DependencyRecorder | None = None
    ) -> None:
        self._dependency = dependency
        self._ledger = ledger
        self._instance = instance
        self._task: asyncio.Task[None] | None = None
        #: Since the start: (what, bucket, rule) -> number. `what` is `hit`, `origin`, `status_404`, ….
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self._outcomes: dict[str, Counter[tuple[str, str]]] = {}
        self._minute = int(time.time()) // 60
        self._minute_counts: Counter[str] = Counter()
        self._minute_first_bytes: Counter[tuple[str, int]] = Counter()
        #: Counts by minute, that of now included, in the order in which they were begun.
        self._minutes = {self._minute: (self._minute_counts, self._minute_first_bytes)}
        #: Minutes that have passed and are not written yet.
        self._backlog: deque[tuple[int, Counter[str], Counter[tuple[str, int]]]] = deque(maxlen=MAX_BACKLOG)

    # ------------------------------------------------------------ counting
    def answered(self, what: str, bucket: str, rule: str = "") -> None:
        """One request was answered: `hit`, `origin` (bytes came from an origin), `redirect`, `absent`, …."""
        _kind.set(what)
        self.totals[what, bucket, rule] += 1
        self._minute_counts[what] += 1
        if what in NEEDS_ORIGIN:
            self._minute_counts[f"origin|{bucket}|{rule}"] += 1
            # When the last one was, for quiet periods that are shorter than a minute.
            self._minute_counts[f"last|{bucket}|{rule}"] = int(time.time()) + 1

    def origin_served(self, request: Request, target: Target, rule: str) -> None:
        """One request was answered with an origin's bytes, or sent there: who still needs it?"""
        self.answered("origin", target.bucket, rule)
        if self._dependency is not None:
            headers = request.by_name
            self._dependency.note(
                target.bucket,
                target.key,
                referer=headers.get("referer", ""),
                user_agent=headers.get("user-agent", ""),
            )

    def outcome(
        self, bucket: str, rule: str, outcome: str, *, n_bytes: int = 0, duration_s: float | None = None
    ) -> None:
        """One pull of this front ended with one of `outcomes.CODES`, after `duration_s`."""
        counts = self._outcomes.get(bucket)
        if counts is None:
            counts = self._outcomes[bucket] = Counter()
        counts[rule, outcome] += 1
        if n_bytes and outcome == "stored":
            counts[rule, "bytes"] += n_bytes
        self.totals[f"outcome_{outcome}", bucket, rule] += 1
        metrics.outcome(rule, outcome)
        if duration_s is not None:
            stored = n_bytes if outcome == "stored" else 0
            metrics.transferred("front", seconds=duration_s, size_bytes=stored)

    def failed(self, bucket: str, rule: str, reason: str) -> None:
        """One pull of this front failed; the queue has the key."""
        self.totals[f"failed_{reason}", bucket, rule] += 1
        metrics.failed(reason, listed=False)

    def request_done(self, status: int, *, first_byte_s: float) -> None:
        """The request of this task was answered; its kind is what `answered` was told last."""
        kind = _kind.get()
        metrics.gateway_answered(status, kind, first_byte_s=first_byte_s)
        timed = _TIMED.get(kind)
        if timed is not None:
            self._minute_first_bytes[timed, bisect_left(BOUNDS_S, first_byte_s)] += 1

    # ------------------------------------------------------------ writing
    def start(self) -> None:
        """Begin to write."""
        if self._ledger is not None:
            self._task = asyncio.create_task(self._run(), name="gateway-stats")

    async def close(self) -> None:
        """Write what is left."""
        if self._task is None:
            return
        await end(self._task)
        await self._flush()
        assert self._ledger is not None
        with contextlib.suppress(RedisError, OSError):  # a gap in the record is then the truth
            await self._ledger.minutes.retire(f"front:{self._instance}")

    async def _run(self) -> None:
        while True:
            await self._flush()
            await asyncio.sleep(FLUSH_S)

    async def _flush(self) -> None:
        assert self._ledger is not None
        minute = int(time.time()) // 60
        if minute != self._minute:
            # A process that slept through minutes was not watching in them: they stay missing.
            self._backlog.append((self._minute, self._minute_counts, self._minute_first_bytes))
            self._begin(minute)
        try:
            async with asyncio.timeout(FLUSH_S):
                for bucket in list(self._outcomes):
                    counts = self._outcomes.pop(bucket)
                    try:
                        await self._ledger.outcomes.count(bucket, counts)
                    except BaseException:
                        self._outcomes.setdefault(bucket, Counter()).update(counts)
                        raise
                while self._backlog:
                    await self._write(*self._backlog[0])
                    self._backlog.popleft()
                before = self._minutes.get(self._minute - 1)
                if before is not None and time.time() % 60 < _AGAIN_S:
                    await self._write(self._minute - 1, *before)
                await self._write(self._minute, self._minute_counts, self._minute_first_bytes)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("stats_not_written", error=described(error))

    def _begin(self, minute: int) -> None:
        """Count in this minute; one that was counted in before, by a clock that was set, is gone on with."""
        self._minute = minute
        counts, first_bytes = self._minutes.pop(minute, (Counter(), Counter()))
        self._minutes[minute] = self._minute_counts, self._minute_first_bytes = counts, first_bytes
        if len(self._minutes) > REMEMBERED_MINUTES:
            del self._minutes[next(iter(self._minutes))]

    async def _write(self, minute: int, counts: Counter[str], first_bytes: Counter[tuple[str, int]]) -> None:
        assert self._ledger is not None
        await self._ledger.minutes.write("front", self._instance, minute, counts)
        await self._ledger.first_bytes.write(self._instance, minute, first_bytes)
