"""The dramatiq broker: explicit middleware, and nothing that interrupts a transfer.

Owns how dramatiq is set up. Left out on purpose: time limits (they kill large objects; we have idle and total
deadlines), retries (they count delivery, not attempts of an item), shutdown notifications (an interrupted
async actor runs on beside its successor; the runner stops between items instead).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.middleware import AsyncIO, Middleware

from workers.broker.clients import connect_blocking
from workers.queue.waiting import WaitingBroker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.settings import BrokerSettings

#: Chance in a million that a broker command also returns the messages of dead workers. dramatiq's default of
#: 1,000 leaves them for minutes on a quiet queue; at the two looks a second of an idle consumer 250,000
#: finds them within about 2 s.
MAINTENANCE_CHANCE = 250_000

log = structlog.get_logger(__name__)


class DeadLetterUnexpected(Middleware):
    """A message whose actor raised goes to the dead letters instead of being acknowledged.

    The runner lists the failures of its items itself; what still raises is a bug or an unreadable message.
    """

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        del broker, result
        if exception is not None:
            log.error("message_dead_lettered", message_id=message.message_id, queue=message.queue_name)
            message.fail()


def make_broker(
    settings: BrokerSettings, *, middleware: Sequence[Middleware] = (), on_loop: bool = True
) -> WaitingBroker:
    """A Redis broker with our middleware, the process's own given last; connects on first use.

    `on_loop`: dramatiq runs an event loop for the actors, and strays are looked for there; without, they are
    plain functions on its threads.
    """
    broker = WaitingBroker(  # type: ignore[no-untyped-call]  # dramatiq types only its public base
        client=connect_blocking(settings),
        namespace=settings.namespace,
        middleware=[*([AsyncIO()] if on_loop else []), DeadLetterUnexpected(), *middleware],
        heartbeat_timeout=int(settings.heartbeat_timeout_s * 1000),
        maintenance_chance=MAINTENANCE_CHANCE,
    )
    broker.has_strays = on_loop
    return broker
