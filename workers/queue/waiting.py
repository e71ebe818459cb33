"""An idle worker waits, where dramatiq's would look again and again, and says once what came of a message.

Owns three waits. The consumer of a lane waits at the server until a message is there (`BLMOVE` of a list's
head to where it was: it changes nothing, blocks while there is none, and is woken by whoever puts one there).
Threads wait for the consumer without a deadline, but when the process ends. Nobody waits for dramatiq's own
delayed messages: ours are delayed by `workers.queue.queue`, and none is ever put there. Thirty-two threads
that look twenty times a second cost 4 % of a core.
"""

from __future__ import annotations

import time
from queue import Empty, PriorityQueue
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    import dramatiq

#: Seconds that a consumer waits at the server: in between it sees that it shall end.
AT_SERVER_S: Final = 0.5

log = structlog.get_logger(__name__)


class WaitingConsumer(_RedisConsumer):
    """dramatiq's consumer of one queue: it sleeps only while its process has all that it may take."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        """`timeout`: milliseconds between looks while it may take no more, or may not wait at the server."""
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._look_every_ms = timeout

    def __next__(self) -> Any:
        """As dramatiq's: a message, or None after a while without."""
        if self.broker.may_hold is not None and not self.message_cache:
            self.prefetch = self.broker.may_hold(self.outstanding_message_count)
        full = self.outstanding_message_count >= self.prefetch
        self.timeout = self._look_every_ms if full else 0
        message = super().__next__()  # type: ignore[no-untyped-call]  # dramatiq types only its public base
        if message is None and not full:
            self._wait()
        return message

    def ack(self, message: Any) -> None:
        """Acknowledge it, once."""
        self._once(super().ack, message)

    def nack(self, message: Any) -> None:
        """Put it with the dead letters, once."""
        self._once(super().nack, message)

    def _once(self, tell: Callable[[Any], None], message: Any) -> None:
        """What has no answer is not said again where strays are looked for.

        A Redis that came back without its last second has forgotten what was recorded before: said again, the
        message would be gone, and what came of it, too. So it is found as a stray, and worked off once more.
        """
        try:
            tell(message)
        except ConnectionClosed as error:
            if not self.broker.has_strays:
                raise
            log.warning("not_acknowledged", message_id=message.message_id, error=str(error))

    def _wait(self) -> None:
        """Until a message is in the list, or a while has passed."""
        name = f"{self.broker.namespace}:{self.queue_name}"
        try:
            self.broker.client.blmove(name, name, AT_SERVER_S, "LEFT", "LEFT")
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        except redis.ResponseError:
            # Not allowed to, or sent away by a server that is no longer the one: the next look tells.
            time.sleep(self._look_every_ms / 1000)


class WaitingBroker(RedisBroker):
    """dramatiq's broker, whose consumers wait."""

    #: Whether its process gives back what it was given and does not have (`workers.queue.strays`).
    has_strays = False
    #: Given how many messages its process has: how many it may have now. None: as many as were asked for.
    may_hold: Callable[[int], int] | None = None

    @property
    def consumer_class(self) -> type[WaitingConsumer]:
        return WaitingConsumer

    def get_declared_delay_queues(self) -> set[str]:
        """None, so that no consumer asks for what nobody sends."""
        return set()


class PatientQueue(PriorityQueue[Any]):
    """What lies between consumer and threads: who takes from it waits until something is there.

    After `hurry` a deadline counts again, because a thread sees only after a look that it shall end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hurried = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As `queue.Queue`'s, but for the deadline."""
        if not block:
            return super().get(block=False)
        with self.not_empty:
            while not self._qsize():
                if not self._hurried:
                    self.not_empty.wait()
                elif not self.not_empty.wait(timeout):
                    raise Empty
            taken = self._get()
            self.not_full.notify()
            return taken

    def hurry(self) -> None:
        """Wake all who wait; from now on they look as often as they were told."""
        with self.not_empty:
            self._hurried = True
            self.not_empty.notify_all()


def make_patient(worker: dramatiq.Worker) -> PatientQueue:
    """Give a worker that has no thread yet a patient queue."""
    patient = PatientQueue()
    worker.work_queue = patient
    return patient
