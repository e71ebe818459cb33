"""Whether the worker processes that we started live, by the signs that they give in Redis.

Owns the judgement: enough processes of a group that gave a sign within the heartbeat timeout and still exist.
A Redis that is away says nothing about workers, so it never makes them unwell: they wait for it, and ending
them would not bring it back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from workers.errors import BrokerUnavailable
from workers.queue.queue import JobQueue
from workers.telemetry.metric_files import alive

if TYPE_CHECKING:
    from workers.plan import Lane
    from workers.settings import BrokerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroup:
    """The processes of one dramatiq master on this machine."""

    #: Name under which they give their signs.
    name: str
    lane: Lane
    processes: int
    broker: BrokerSettings

    async def problem(self, queue: JobQueue) -> str | None:
        """What is wrong with the group, or None.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        living = sum(alive(pid) for pid in await queue.members(self.name))
        if living >= self.processes:
            return None
        return f"{living} of {self.processes} worker processes give signs of life"

    async def ready(self) -> bool:
        """For a supervisor: whether all processes live; True as well when nobody can tell."""
        queue = JobQueue.open(self.broker)
        try:
            return await self.problem(queue) is None
        except BrokerUnavailable:
            return True
        finally:
            with contextlib.suppress(RedisError, OSError):  # of a connection that is gone already
                await queue.close()
