"""The two actors. All they do is hand their message to the runner of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq

from workers.plan import Lane

if TYPE_CHECKING:
    from workers.queue.process import WorkerProcess


def declare(broker: dramatiq.Broker, process: WorkerProcess) -> None:
    """Declare `fetch_hot` and `fetch_cold` on their queues.

    Which of them a process works off is decided by the queues it is told to consume.
    """

    async def fetch(batch: dict[str, Any]) -> None:
        await process.run(batch)

    for lane in Lane:
        dramatiq.actor(actor_name=f"fetch_{lane}", queue_name=lane.value, broker=broker)(fetch)
