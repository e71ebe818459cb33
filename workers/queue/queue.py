"""Putting batches on the queue, from asyncio, many in one round trip.

Owns the producer's side of dramatiq's Redis structures: messages are made with dramatiq's own encoder and put
there by the broker's own script, pipelined (dramatiq itself has no bulk send and a blocking client). Owns the
delayed jobs too: dramatiq would hold them in the memory of whichever worker fetched them first.

Key schema (queue database; the first four are dramatiq's)::

    ns:<lane>              list    message ids waiting
    ns:<lane>.msgs         hash    message id -> message, waiting and unacknowledged
    ns:__heartbeats__      zset    worker id -> unix ms
    ns:__acks__.<worker>.<lane>  set  message ids that a worker was given and has not acknowledged
    ns:delayed:<lane>      zset    message id -> unix ms, by the server, when it is due
    ns:delayed:<lane>.msgs hash    message id -> message
    ns:workers             zset    `group:pid` of worker processes -> unix ms of their last sign of life
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import orjson
from dramatiq import Message
from redis.exceptions import RedisError

from workers.broker.clients import connect
from workers.broker.replicas import Replicas
from workers.broker.server_clock import NOW
from workers.errors import BrokerUnavailable, described
from workers.plan import Batch, Lane, encode_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from workers.settings import BrokerSettings

#: Delayed jobs promoted by one call, so that a thousand due at once spread over workers.
PROMOTED_AT_ONCE = 100
#: Milliseconds that the last sign of life of a worker process is kept.
MEMBERS_KEPT_MS = 86_400_000

_DELAY = (
    NOW
    + """
-- KEYS: delayed; ARGV: id, ms until it is due, message
redis.call('hset', KEYS[1] .. '.msgs', ARGV[1], ARGV[3])
redis.call('zadd', KEYS[1], now + ARGV[2], ARGV[1])
"""
)

_PROMOTE = (
    NOW
    + """
-- KEYS: delayed, queue; ARGV: limit
local due = redis.call('zrangebyscore', KEYS[1], '-inf', now, 'limit', 0, ARGV[1])
for _, id in ipairs(due) do
  local message = redis.call('hget', KEYS[1] .. '.msgs', id)
  if message then
    redis.call('hset', KEYS[2] .. '.msgs', id, message)
    redis.call('rpush', KEYS[2], id)
    redis.call('hdel', KEYS[1] .. '.msgs', id)
  end
  redis.call('zrem', KEYS[1], id)
end
return #due
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How much one lane holds, in messages."""

    #: Waiting in the list.
    waiting: int
    #: Taken by a worker and not acknowledged.
    running: int
    #: To be tried again later.
    delayed: int
    #: Age of the message at the head of the list, seconds; 0 when there is none.
    oldest_age_s: float


class JobQueue:
    """The two lanes, seen by producers and by the runner."""

    def __init__(self, redis: Redis, settings: BrokerSettings) -> None:
        self._redis = redis
        self._replicas = Replicas.of(settings)
        self._ns = settings.namespace
        self._heartbeat_timeout_ms = int(settings.heartbeat_timeout_s * 1000)
        self._id = f"producer-{uuid.uuid4()}"
        script = files("dramatiq.brokers").joinpath("redis", "dispatch.lua").read_text(encoding="utf-8")
        self._dispatch = redis.register_script(script)
        self._delay = redis.register_script(_DELAY)
        self._promote = redis.register_script(_PROMOTE)

    @classmethod
    def open(cls, settings: BrokerSettings) -> JobQueue:
        """A queue on the configured server; connects on first use."""
        return cls(connect(settings, decode=False), settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def enqueue_many(self, batches: Sequence[Batch], *, delay_s: float = 0.0) -> None:
        """Put batches on their lanes, in order, in one pipeline.

        Raises:
            BrokerUnavailable: Redis does not answer, or too few replicas have them. Some of the batches may
                have been taken all the same: sending them again is harmless.
        """
        await self.enqueue_each([(batch, delay_s) for batch in batches])

    async def enqueue_each(self, batches: Sequence[tuple[Batch, float]]) -> None:
        """As `enqueue_many`, each after so many seconds of its own.

        Raises:
            BrokerUnavailable: as `enqueue_many`.
        """
        if not batches:
            return
        now_ms = int(time.time() * 1000)
        try:
            async with (
                self._replicas.holding(self._redis) as redis,
                redis.pipeline(transaction=False) as pipe,
            ):
                for batch, delay_s in batches:
                    message_id, data = self._encode(batch)
                    if delay_s > 0:
                        await self._delay(
                            [f"{self._ns}:delayed:{batch.lane}"],
                            [message_id, int(delay_s * 1000), data],
                            client=pipe,
                        )
                    else:
                        args: list[str | bytes | int] = ["enqueue", now_ms, batch.lane.value, self._id]
                        args += [self._heartbeat_timeout_ms, 0, 0, 1, message_id, data]
                        await self._dispatch([self._ns], args, client=pipe)
                await pipe.execute()
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error

    async def enqueue_order(self, lane: str, actor: str, order: Mapping[str, Any]) -> None:
        """Put one message of another kind on a lane of its own: the actor's only argument is the order.

        Raises:
            BrokerUnavailable: as `enqueue_many`.
        """
        message_id = str(uuid.uuid4())
        message: Message[None] = Message(
            queue_name=lane,
            actor_name=actor,
            args=(dict(order),),
            kwargs={},
            options={"redis_message_id": message_id},
            message_id=message_id,
        )
        now_ms = int(time.time() * 1000)
        args: list[str | bytes | int] = ["enqueue", now_ms, lane, self._id, self._heartbeat_timeout_ms]
        args += [0, 0, 1, message_id, orjson.dumps(message.asdict())]
        try:
            async with self._replicas.holding(self._redis) as redis:
                await self._dispatch([self._ns], args, client=redis)
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error

    def _encode(self, batch: Batch) -> tuple[str, bytes]:
        message_id = str(uuid.uuid4())
        stamped = replace(batch, id=batch.id or message_id, enqueued_at=batch.enqueued_at or time.time())
        message: Message[None] = Message(
            queue_name=batch.lane.value,
            actor_name=f"fetch_{batch.lane}",
            args=(),
            kwargs={"batch": encode_batch(stamped)},
            options={"redis_message_id": message_id},
            message_id=message_id,
        )
        return message_id, orjson.dumps(message.asdict())

    async def promote_due(self, lane: Lane) -> int:
        """Move delayed jobs whose time has come to their lane; how many were moved."""
        keys = [f"{self._ns}:delayed:{lane}", f"{self._ns}:{lane}"]
        return int(await self._promote(keys, [PROMOTED_AT_ONCE]))

    async def heartbeat(self, worker_id: str, *, member: str) -> None:
        """Say that a worker lives; `member` is its `group:pid`, for whoever supervises it.

        dramatiq does so only when it fetches, and a worker whose every thread moves a large object does not
        fetch: without this its messages would be given to somebody else after the heartbeat timeout.
        """
        now_ms = int(time.time() * 1000)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(f"{self._ns}:__heartbeats__", {worker_id: now_ms})
            pipe.zadd(f"{self._ns}:workers", {member: now_ms})
            pipe.zremrangebyscore(f"{self._ns}:workers", "-inf", now_ms - MEMBERS_KEPT_MS)
            await pipe.execute()

    async def members(self, group: str) -> frozenset[int]:
        """Process ids of a group of workers that gave a sign of life within the heartbeat timeout.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        since = int(time.time() * 1000) - self._heartbeat_timeout_ms
        try:
            found = await self._redis.zrangebyscore(f"{self._ns}:workers", since, "+inf")
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error
        names = [cast("bytes", name).decode().rpartition(":") for name in found]
        return frozenset(int(pid) for theirs, _, pid in names if theirs == group)

    async def held_by(self, worker_id: str, lane: Lane) -> frozenset[str]:
        """Ids of the messages that a worker was given and has not acknowledged, as Redis has it."""
        found = await self._redis.smembers(f"{self._ns}:__acks__.{worker_id}.{lane}")
        return frozenset(cast("bytes", name).decode() for name in found)

    async def give_back(self, worker_id: str, lane: Lane, message_ids: Sequence[str]) -> None:
        """Put messages of a worker back on their lane."""
        if message_ids:
            now_ms = int(time.time() * 1000)
            args: list[str | int] = [
                "requeue",
                now_ms,
                lane.value,
                worker_id,
                self._heartbeat_timeout_ms,
                0,
                0,
                1,
            ]
            await self._dispatch([self._ns], [*args, *message_ids])

    async def workers_alive(self) -> int:
        """How many worker processes gave a sign of life within the heartbeat timeout.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        since = int(time.time() * 1000) - self._heartbeat_timeout_ms
        try:
            names = await self._redis.zrangebyscore(f"{self._ns}:__heartbeats__", since, "+inf")
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error
        return sum(not cast("bytes", name).startswith(b"producer-") for name in names)

    async def arrival(self, lane: str, seconds: float) -> bool:
        """Wait at the server until a message is on a lane, and leave it there; False when none came in time.

        Raises:
            BrokerUnavailable: Redis does not answer, or does not let anybody wait.
        """
        name = f"{self._ns}:{lane}"
        try:
            wait = cast("int", seconds)  # redis-py knows of whole ones only, the server of parts
            return await self._redis.blmove(name, name, wait, "LEFT", "LEFT") is not None
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error

    async def depth(self, lane: str) -> QueueDepth:
        """How much a lane holds.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        name = f"{self._ns}:{lane}"
        try:
            # At one moment: a message that goes from one place to the other is in neither else.
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.llen(name)
                pipe.hlen(f"{name}.msgs")
                pipe.zcard(f"{self._ns}:delayed:{lane}")
                pipe.lindex(name, 0)
                waiting, held, delayed, head = await pipe.execute()
            oldest = await self._redis.hget(f"{name}.msgs", head) if head is not None else None
        except (RedisError, OSError) as error:
            msg = f"queue: {described(error)}"
            raise BrokerUnavailable(msg) from error
        age = 0.0
        if oldest is not None:
            age = max(0.0, time.time() - orjson.loads(oldest)["message_timestamp"] / 1000)
        return QueueDepth(waiting=waiting, running=max(0, held - waiting), delayed=delayed, oldest_age_s=age)
