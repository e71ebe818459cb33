"""The ledger: everything Ferryman remembers about keys, in one Redis database apart from the queue's.

Owns the connection and hands out its parts, one concept a file (`claims`, `failures`, `outcomes`, …), and
here the ids of events already taken and the count of deliveries. The ledger stays small: records of single
keys only for failures, waivers, tombstones and absent keys with a time to live; all else is counts.

Key schema of this file (ledger database)::

    ns:event:<id>          string  `1`, one day: this event was accepted
    ns:delivery:<message>  set     one token for each time a message was begun; one day
    ns:done:<message>      set     its keys that were recorded while others were under way; one day
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from workers.broker.clients import connect
from workers.broker.replicas import Replicas
from workers.ledger.back import Back
from workers.ledger.claims import Claims
from workers.ledger.failures import Failures
from workers.ledger.first_bytes import FirstBytes
from workers.ledger.minutes import Minutes
from workers.ledger.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from workers.settings import BrokerSettings

#: Seconds that accepted event ids and delivery counts are remembered.
REMEMBERED_S = 86_400


class Ledger:
    """The ledger database, over a client that decodes answers to str.

    Redis errors are raised untranslated: what a missing Redis means differs for every caller.
    """

    def __init__(
        self, redis: Redis, *, namespace: str = "ferryman", replicas: Replicas | None = None
    ) -> None:
        self.redis = redis
        self.namespace = namespace
        self.back = Back(redis, namespace=namespace, replicas=replicas)
        self.claims = Claims(redis, namespace=namespace, replicas=replicas)
        self.failures = Failures(redis, namespace=namespace)
        self.outcomes = Outcomes(redis, namespace=namespace)
        self.minutes = Minutes(redis, namespace=namespace)
        self.first_bytes = FirstBytes(redis, namespace=namespace)

    @classmethod
    def open(cls, settings: BrokerSettings) -> Ledger:
        """A ledger on the configured server; connects on first use."""
        return cls(
            connect(settings, database=settings.ledger_db),
            namespace=settings.namespace,
            replicas=Replicas.of(settings),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def seen_events(self, ids: Sequence[str]) -> list[bool]:
        """For each event id, whether it was accepted before."""
        if not ids:
            return []
        found = await self.redis.mget([f"{self.namespace}:event:{event_id}" for event_id in ids])
        return [value is not None for value in found]

    async def remember_events(self, ids: Sequence[str]) -> None:
        """Remember accepted event ids for a day; call it after the queue has them."""
        if not ids:
            return
        async with self.redis.pipeline(transaction=False) as pipe:
            for event_id in ids:
                pipe.set(f"{self.namespace}:event:{event_id}", b"1", ex=REMEMBERED_S)
            await pipe.execute()

    async def begin_delivery(self, message_id: str, token: str) -> int:
        """Count one more delivery of a message; how many there were with this one.

        `token` is the delivery's own: told again, because the answer did not come, it counts once.
        """
        name = f"{self.namespace}:delivery:{message_id}"
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.sadd(name, token)
            pipe.expire(name, REMEMBERED_S)
            pipe.scard(name)
            *_, number = await pipe.execute()
        return int(number)

    async def note_done(self, message_id: str, keys: Sequence[str]) -> None:
        """These keys of a message were recorded: its next delivery need not work them off again."""
        if not keys:
            return
        name = f"{self.namespace}:done:{message_id}"
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.sadd(name, *keys)
            pipe.expire(name, REMEMBERED_S)
            await pipe.execute()

    async def done(self, message_id: str) -> frozenset[str]:
        """Keys of a message that an earlier delivery recorded."""
        found = await self.redis.smembers(f"{self.namespace}:done:{message_id}")
        return frozenset(cast("set[str]", found))

    async def end_delivery(self, message_id: str) -> None:
        """The message was finished in an orderly way."""
        names = (f"{self.namespace}:{kind}:{message_id}" for kind in ("delivery", "done"))
        await self.redis.delete(*names)
