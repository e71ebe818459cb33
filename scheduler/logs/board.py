"""What consumers say about themselves, in Redis: for `ferryman status`, metrics and the finalize gate.

Owns the per-minute record that is written even when zero (a gate must tell "no misses" from "nobody looked"),
and the current state of each consumer.

Key schema (ledger database)::

    ns:consumers   hash   instance -> JSON {at, waiting_for, totals, files: [{path, format, lag_bytes, …}]}
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from scheduler.logs.consumer import Consumer
    from workers.ledger.ledger import Ledger

log = structlog.get_logger(__name__)

ROLE = "consumer"
#: Seconds between writes of the current state.
STATE_S = 2.0
#: Minutes that are kept for a Redis that is away.
_BACKLOG = 24 * 60
_COUNTED = (
    "lines", "misses", "repeats", "accepted", "duplicate", "unmatched", "absent", "tombstoned", "refused",
    "tombstones",
    "gaps", "gap_bytes",
)  # fmt: skip


class Board:
    """Writes one consumer's records until closed."""

    def __init__(self, ledger: Ledger, consumer: Consumer, *, instance: str) -> None:
        self._ledger = ledger
        self._consumer = consumer
        self._instance = instance
        self._minute = int(time.time()) // 60
        self._told: Counter[str] = Counter()
        self._accepted = 0
        self._last = 0
        self._backlog: deque[tuple[int, dict[str, int]]] = deque(maxlen=_BACKLOG)
        self._away = False

    async def run(self) -> None:
        """Write until cancelled; a Redis that is away is caught up with later."""
        while True:
            await self.write()
            await asyncio.sleep(STATE_S)

    async def write(self) -> None:
        """The minutes that have passed, the current one, and the state."""
        now = int(time.time()) // 60
        since = {name: self._consumer.totals[name] - self._told[name] for name in _COUNTED}
        if self._consumer.totals["accepted"] != self._accepted:
            self._accepted = self._consumer.totals["accepted"]
            self._last = int(time.time()) + 1
        if since["accepted"]:
            # When the last one came, for quiet periods that are shorter than a minute.
            since["last"] = self._last
        if now != self._minute:
            self._backlog.append((self._minute, since))
            self._told = Counter(self._consumer.totals)
            # A process that slept through minutes was not watching in them: they stay missing.
            self._minute, since = now, dict.fromkeys(_COUNTED, 0)
        try:
            while self._backlog:
                minute, counts = self._backlog[0]
                await self._ledger.minutes.write(ROLE, self._instance, minute, counts)
                self._backlog.popleft()
            await self._ledger.minutes.write(ROLE, self._instance, now, since)
            state = {"at": time.time(), "totals": dict(self._consumer.totals), **self._consumer.status()}
            await self._ledger.redis.hset(_name(self._ledger), self._instance, orjson.dumps(state))
            self._away = False
        except (RedisError, OSError) as error:
            if not self._away:
                self._away = True
                log.warning("consumer_record_not_written", error=str(error))

    async def retire(self) -> None:
        """The consumer ends on purpose: its silence is no gap."""
        with contextlib.suppress(RedisError, OSError):  # it is going away; nobody is left to tell
            await self.write()
            await self._ledger.minutes.retire(f"{ROLE}:{self._instance}")
            await self._ledger.redis.hdel(_name(self._ledger), self._instance)


def _name(ledger: Ledger) -> str:
    return f"{ledger.namespace}:consumers"


async def consumers(redis: Redis, *, namespace: str = "ferryman") -> dict[str, Mapping[str, Any]]:
    """The state of every consumer that has not said goodbye; `at` tells how old each is."""
    rows: dict[Any, Any] = await redis.hgetall(f"{namespace}:consumers")
    return {str(instance): orjson.loads(state) for instance, state in rows.items()}
