"""A dispatcher over a real Redis with one rule for every key, for tests and benches of what feeds it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

from scheduler.config.settings import Settings
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.rules.yaml import document
from workers.ledger.ledger import Ledger
from workers.plan import decode_batch
from workers.queue.queue import JobQueue
from workers.settings import BrokerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUCKET = "site"
RULES = 'rules: [{origins: ["http://o.example"]}]'


class OneRule:
    """Every key of every bucket goes to one origin; HEAD triggers nothing."""

    def __init__(self, rules: str = RULES) -> None:
        self.ruleset, _ = document.parse(rules, document.ReadOptions(bucket=BUCKET))

    def snapshot(self, bucket):
        return self.ruleset


@contextlib.asynccontextmanager
async def intake_services(
    url: str,
    *,
    namespace: str = "t",
    max_depth: int = 100_000,
    buckets=(BUCKET,),
    rules: str = RULES,
    hosts=(),
) -> AsyncIterator[SimpleNamespace]:
    """`settings`, `ledger`, `queue`, `dispatcher` as a process has them, in databases emptied first."""
    settings = Settings(
        broker=BrokerSettings(url=url, namespace=namespace, max_queue_depth=max_depth),
        buckets={name: {"hosts": hosts if name == BUCKET else ()} for name in buckets},
    )
    ledger = Ledger.open(settings.broker)
    queue = JobQueue.open(settings.broker)
    await ledger.redis.flushall()
    try:
        yield SimpleNamespace(
            settings=settings,
            ledger=ledger,
            redis=ledger.redis,
            queue=queue,
            rules=SimpleNamespace(synced=True),
            dispatcher=Dispatcher(
                rules=OneRule(rules),
                ledger=ledger,
                queue=queue,
                buckets=settings.buckets,
                max_depth=max_depth,
            ),
        )
    finally:
        await queue.close()
        await ledger.close()


async def queued_keys(queue: JobQueue, lane: str = "hot", namespace: str = "t") -> list[str]:
    """Keys of every message that waits in a lane, sorted."""
    import dramatiq

    rows = await queue._redis.hgetall(f"{namespace}:{lane}.msgs")
    keys = []
    for raw in rows.values():
        message = dramatiq.Message.decode(raw if isinstance(raw, bytes) else raw.encode())
        batch = decode_batch(message.kwargs["batch"])
        keys += [item.key for item in batch.items]
    return sorted(keys)
