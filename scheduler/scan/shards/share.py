"""How many shards a process takes, so that none has them all while another has nothing to do.

Owns the share: of all that wait or run, as much as this process can run of what the fleet can run at once.
What others have left for a while is anybody's. dramatiq's consumers take all they may as soon as they see it,
so whoever looked first would have it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from scheduler.scan.shards.records import capacity
from workers.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from workers.queue.queue import JobQueue, QueueDepth

#: Seconds for which others may take what is theirs.
LEFT_AFTER_S: Final = 1.0
#: Seconds that a consumer waits for the numbers.
_ASKED_S: Final = 5.0


class Share:
    """Tells the consumer of one lane, on its thread, how many messages its process may have at once."""

    def __init__(
        self,
        redis: Redis,
        queue: JobQueue,
        *,
        namespace: str,
        lane: str,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`threads`: how many this process runs at once. To be made on the loop of the two clients."""
        self._loop = asyncio.get_running_loop()
        self._redis, self._queue = redis, queue
        self._namespace, self._lane = namespace, lane
        self._threads, self._clock = threads, clock
        #: Since when something waits that this process leaves to others.
        self._left_since: float | None = None

    def __call__(self, outstanding: int) -> int:
        """How many it may have now, while it has `outstanding`; all it can run when nobody knows."""
        asking = self._asked()
        try:
            asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the loop is closed: the process ends
            asking.close()
            return self._threads
        try:
            depth, every = asked.result(_ASKED_S)
        except (RedisError, OSError, BrokerUnavailable):  # the consumer's own look says what is wrong
            asked.cancel()  # where it took too long: the next look asks again
            return self._threads
        return self.of(depth, every, outstanding)

    async def _asked(self) -> tuple[QueueDepth, int]:
        return await self._queue.depth(self._lane), await capacity(self._redis, self._namespace)

    def of(self, depth: QueueDepth, every: int, outstanding: int) -> int:
        """As calling it, where the lane holds this and the fleet runs `every` at once. Does no I/O."""
        total = depth.waiting + depth.running
        # Rounded up; at least one, and whoever has not said yet that it works counts itself.
        share = max(1, -(-total * self._threads // max(every, self._threads)))
        if depth.waiting == 0 or outstanding < share:
            self._left_since = None
        elif self._left_since is None:
            self._left_since = self._clock()
        elif self._clock() - self._left_since >= LEFT_AFTER_S:
            return self._threads
        return min(share, self._threads)
