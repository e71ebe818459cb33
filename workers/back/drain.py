"""A process that works off what is due on the way back.

Owns the loop: as many keys at once as the process may move, from all buckets in turn, each under its lease.
Stops between keys; what it had taken comes back when its lease ends, at once when it was not begun.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from workers.background import end
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from workers.back.settle import Settler
    from workers.ledger.back import Back, Taken

#: Seconds between looks while something waits, and while nothing does.
WAITING_S: Final = 0.2
IDLE_S: Final = 1.0
#: Seconds between tries to reach a Redis that is away.
AWAY_S: Final = 1.0

log = structlog.get_logger(__name__)


class Drain:
    """Works off keys in one process."""

    def __init__(self, back: Back, settler: Settler, *, concurrency: int) -> None:
        self._back = back
        self._settler = settler
        self._concurrency = concurrency
        self._running: set[asyncio.Task[None]] = set()
        self._free = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; whatever runs then is cancelled as well."""
        away = False
        try:
            while True:
                try:
                    pause_s = await self._once()
                    away = False
                except (RedisError, OSError) as error:
                    if not away:
                        log.warning("back_redis_away", error=str(error))
                    away = True
                    await asyncio.sleep(AWAY_S)
                    continue
                if pause_s:
                    await asyncio.sleep(pause_s)
        finally:
            await end(*self._running)

    async def _once(self) -> float:
        """Take what is due and begin it; the seconds until the next look."""
        found = False
        buckets = await self._back.buckets()
        for bucket in buckets:
            while True:
                free = self._concurrency - len(self._running)
                if free <= 0:
                    self._free.clear()
                    await self._free.wait()
                    continue
                taken = await self._back.take(bucket, owner=self._settler.owner, limit=free)
                for one in taken:
                    task = asyncio.create_task(self._one(one))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                found = found or bool(taken)
                if len(taken) < free:
                    break
        if found:
            return 0.0
        return WAITING_S if buckets else IDLE_S

    async def _one(self, taken: Taken) -> None:
        try:
            await self._settler.settle(taken)
        except (RedisError, OSError, FerrymanError) as error:
            # Its lease ends by itself, and it is looked at again.
            log.warning("back_not_recorded", bucket=taken.bucket, key=taken.key, error=str(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.set()
