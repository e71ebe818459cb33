"""Messages that Redis has given to this process and that it does not have.

Owns one gap of dramatiq's Redis broker: it counts a message as ours from the moment the server hands it out,
so an answer that is lost on its way (the server is killed, a connection breaks) or an acknowledgement that
is refused leaves the message with a process that lives and does not work on it, for as long as it lives. Such
messages are found by looking twice, and given back to their lane: to work one off twice is harmless.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Message

if TYPE_CHECKING:
    import dramatiq

    from workers.plan import Lane
    from workers.queue.queue import JobQueue

#: Seconds between two looks: longer than dramatiq takes to repeat an acknowledgement (5 s).
LOOK_EVERY_S = 10.0

log = structlog.get_logger(__name__)


class Strays:
    """Compares what the server says one worker holds with what it really has."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._worker: Any = None
        self._running: set[str] = set()
        self._line = threading.Lock()
        self._suspects: frozenset[str] = frozenset()

    def watch(self, worker: dramatiq.Worker) -> None:
        """From now on `worker` is the one whose memory counts."""
        self._worker = worker

    def begins(self, message: Any) -> None:
        """A thread begins with a message."""
        with self._line:
            self._running.add(_id(message))

    def ends(self, message: Any) -> None:
        """A thread is done with a message, whether it could be acknowledged or not."""
        with self._line:
            self._running.discard(_id(message))

    def known(self) -> frozenset[str]:
        """Every message that this process has: running, waiting for a thread, or just fetched."""
        with self._line:
            found = set(self._running)
        if self._worker is not None:
            found.update(_id(item.message) for item in list(self._worker.work_queue.queue))
            thread = self._worker.consumers.get(self._lane.value)
            consumer = thread.consumer if thread is not None else None
            cached = list(consumer.message_cache) if consumer is not None else []
            found.update(_id(Message.decode(data)) for data in cached if data is not None)
        return frozenset(found)

    async def look(self, queue: JobQueue, worker_id: str) -> int:
        """Give back what was unknown at this look and the one before; how many messages.

        Raises redis-py's errors untranslated.
        """
        held = await queue.held_by(worker_id, self._lane)
        unknown = held - self.known()
        stray = unknown & self._suspects
        self._suspects = unknown
        if stray:
            log.warning("stray_messages_returned", lane=self._lane.value, messages=len(stray))
            await queue.give_back(worker_id, self._lane, sorted(stray))
        return len(stray)


def _id(message: Any) -> str:
    return str(message.options["redis_message_id"])
