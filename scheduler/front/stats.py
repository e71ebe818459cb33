"""What this front process has answered: counters, and the per-minute record that proves it was watching.

Owns counting. The ledger gets sums every few seconds and one record a minute, even when all is zero: the
finalize gate takes a missing minute for a front that nobody was looking through (`workers.minutes`). A
ledger that is away costs the clients nothing; what could not be written is written with the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from workers import metrics
from workers.background import end

if TYPE_CHECKING:
    from workers.ledger import Ledger

log = structlog.get_logger()

#: How the request of the present task was answered, for its metric.
_kind: ContextVar[str] = ContextVar("ferryman_answer_kind", default="other")
#: Seconds between two rounds to the ledger.
FLUSH_S = 5.0


class GatewayStats:
    """Counters of one process."""

    def __init__(self, ledger: Ledger | None, *, instance: str) -> None:
        self._ledger = ledger
        self._instance = instance
        self._task: asyncio.Task[None] | None = None
        #: Since the start: (what, bucket, rule) -> number. `what` is `hit`, `origin`, `status_404`, ….
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self._outcomes: dict[str, Counter[tuple[str, str]]] = {}
        self._minute = int(time.time()) // 60
        self._minute_counts: Counter[str] = Counter()

    # ------------------------------------------------------------ counting
    def answered(self, what: str, bucket: str, rule: str = "") -> None:
        """One request was answered: `hit`, `origin` (bytes came from an origin), `redirect`, `absent`, …."""
        _kind.set(what)
        self.totals[what, bucket, rule] += 1
        self._minute_counts[what] += 1
        if what == "origin":
            self._minute_counts[f"origin|{bucket}|{rule}"] += 1

    def outcome(self, bucket: str, rule: str, outcome: str, *, n_bytes: int = 0) -> None:
        """One pull of this front ended with an outcome of `workers.outcomes.CODES`."""
        counts = self._outcomes.setdefault(bucket, Counter())
        counts[rule, outcome] += 1
        if n_bytes and outcome == "stored":
            counts[rule, "bytes"] += n_bytes
        self.totals[f"outcome_{outcome}", bucket, rule] += 1
        metrics.outcome(rule, outcome)

    def failed(self, bucket: str, rule: str, reason: str) -> None:
        """One pull of this front failed; the queue has the key."""
        self.totals[f"failed_{reason}", bucket, rule] += 1
        metrics.failed(reason, listed=False)

    @staticmethod
    def request_done(status: int, *, first_byte_s: float) -> None:
        """The request of this task was answered; its kind is what `answered` was told last."""
        metrics.gateway_answered(status, _kind.get(), first_byte_s=first_byte_s)

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
        try:
            async with asyncio.timeout(FLUSH_S):
                for bucket in list(self._outcomes):
                    counts = self._outcomes.pop(bucket)
                    try:
                        await self._ledger.outcomes.count(bucket, counts)
                    except BaseException:
                        self._outcomes.setdefault(bucket, Counter()).update(counts)
                        raise
                minute = int(time.time()) // 60
                await self._ledger.minutes.write("front", self._instance, self._minute, self._minute_counts)
                if minute != self._minute:
                    self._minute = minute
                    self._minute_counts = Counter()
                    await self._ledger.minutes.write("front", self._instance, minute, self._minute_counts)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("stats_not_written", error=f"{type(error).__name__}: {error}")
