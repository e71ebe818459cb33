"""Writing down what became of a batch's items, and letting go of their claims.

Owns the order: what goes back is in the queue, and what ended is in the ledger, before a claim is given up;
the message is acknowledged after that. Whatever dies in between repeats work and loses none (guarantee 3).
Knows neither origin nor store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from redis.exceptions import RedisError

from workers.errors import BrokerUnavailable
from workers.ledger.claims import asker
from workers.ledger.failures import Failure, unread_failures
from workers.ledger.names import Named
from workers.plan import AbsentAtOrigin, AlreadyPresent, Lane, Skipped, Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from workers.ledger.ledger import Ledger
    from workers.plan import Batch, FetchItem
    from workers.queue.leases import LeaseKeeper
    from workers.queue.queue import JobQueue

#: Seconds between attempts to reach a Redis that is away.
REDIS_RETRY_S = 1.0
#: Seconds beyond its delay that a returned item's claim counts as queued.
QUEUED_AGAIN_S = 600.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The item goes back to the queue; after `delay_s` seconds, or at once when it is 0."""

    item: FetchItem
    delay_s: float
    reason: str
    #: Somebody else moves it: its claim is not ours to hand over.
    busy: bool = False


#: Reasons of items that an origin has and the store does not get.
_THERE = frozenset({"too_large", "private", "no_store", "vary"})
#: Reasons to skip that say nothing about the key: what was listed of it before stays.
_NOTHING_DONE = frozenset({"scan_cancelled", "rule_withdrawn"})

#: What became of an item in this run of its message.
Result = Stored | AlreadyPresent | AbsentAtOrigin | Skipped | Failure | Again


class Insisting:
    """Calls Redis until it answers, for one process.

    A message is acknowledged through the same Redis, so nothing is gained by giving up; a process that is
    told to stop meanwhile is ended by its supervisor, and the message returns by its lost heartbeat.
    """

    def __init__(self) -> None:
        #: How often it did not answer. Whenever it does again, it may have forgotten its last second.
        self.unanswered = 0

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """What it answers to `call`."""
        while True:
            try:
                return await call()
            except (RedisError, OSError, BrokerUnavailable) as error:
                self.unanswered += 1
                log.warning("redis_away", error=str(error), retry_s=REDIS_RETRY_S)
                await asyncio.sleep(REDIS_RETRY_S)


class Recorder:
    """Records the items of one process's batches."""

    def __init__(self, *, ledger: Ledger, queue: JobQueue, leases: LeaseKeeper, insist: Insisting) -> None:
        self._insist = insist
        self._ledger = ledger
        self._queue = queue
        self._leases = leases

    async def record(
        self,
        batch: Batch,
        results: Sequence[tuple[FetchItem, Result]],
        *,
        started: bool = False,
        partly: bool = False,
    ) -> None:
        """Write down what became of items, then let go of their claims.

        `started`: the items' claims are ours, but those of the busy and of tombstones. `partly`: other items
        of the message are still under way, so that it may be delivered again.
        """
        plan, owner = batch.plan, self._leases.owner
        stored: list[str] = []
        places: list[tuple[int, str, int]] = []
        others: list[tuple[FetchItem, Result]] = []
        for pair in results:
            item, result = pair
            if isinstance(result, Stored):  # nearly all of a scan's
                stored.append(item.key)
                places.append((item.position, "stored", result.size))
            else:
                others.append(pair)
        held = {item.key for item, result in others if started and _was_held(result)}
        again = [result for _, result in others if isinstance(result, Again)]
        failures = [result for _, result in others if isinstance(result, Failure)]
        finished = [item.key for item, result in others if not isinstance(result, Again)]
        in_store = stored + [item.key for item, result in others if isinstance(result, AlreadyPresent)]
        ended = held.intersection(finished).difference(in_store)
        if started:
            held.update(stored)
        dropped = {*stored, *finished}.difference(held)
        good = stored + [item.key for item, result in others if _settles(result)]
        absent = [item.key for item, result in others if isinstance(result, AbsentAtOrigin)]
        counts: Counter[tuple[str, str]] = Counter()
        if stored:
            counts[plan.rule, "stored"] = len(stored)
        needed: Counter[str] = Counter()
        if stored and not batch.scan:
            needed[plan.rule] = len(stored)
        names: dict[int, Named] = {}
        for item, result in others:
            if isinstance(result, Again):
                continue
            kind = "failed" if isinstance(result, Failure) else result.kind
            counts[plan.rule, kind] += 1
            if not batch.scan and _was_needed(result):
                needed[plan.rule] += 1
            places.append((item.position, kind, 0))
            if isinstance(result, AbsentAtOrigin):
                names[item.position] = Named("absent", item.key)
            elif isinstance(result, Skipped):
                names[item.position] = Named("skipped", item.key, result.reason)
        if places:
            counts[plan.rule, "bytes"] = sum([size for _, _, size in places])

        async def write() -> None:
            await self._ledger.failures.add(failures)
            if batch.scan:
                await self._ledger.outcomes.set_places(batch.scan, batch.batch, places, names)
            # A retry that came good clears the failure an earlier attempt may have listed.
            await self._ledger.failures.remove(plan.bucket, good)
            await self._ledger.claims.mark_absent(
                plan.bucket, absent, ttl_s=plan.absent_ttl_s, rule=asker(plan)
            )
            await self._ledger.claims.finish(
                plan.bucket, in_store, owner=owner, lane=batch.lane, claim=batch.claim
            )
            await self._ledger.claims.release(
                plan.bucket, sorted(ended), owner=owner, lane=batch.lane, claim=batch.claim
            )
            if batch.claim:
                await self._ledger.claims.forget(
                    plan.bucket, sorted(dropped), lane=batch.lane, claim=batch.claim
                )
            if partly:
                await self._ledger.note_done(batch.id, [item.key for item, _ in results])
            await self._ledger.outcomes.count(plan.bucket, counts, needed=needed)

        # Apart from the rest, which may be told twice: each repetition of this is one more message.
        await self._insist(lambda: self._requeue(batch, again))
        await self._insist(write)
        self._leases.drop(plan.bucket, held)

    async def unread(self, wire: Mapping[str, Any], reason: str) -> None:
        """The keys of a message that cannot be read are listed, as far as they can be told.

        Its claims go, which nobody else would give up, and a scan learns that its places have failed.
        """
        listed = unread_failures(wire, reason)
        if not listed:
            return
        bucket, keys, claim = listed[0].bucket, [failure.key for failure in listed], wire.get("claim")
        lane, scan, number = Lane(listed[0].lane), wire.get("scan"), wire.get("batch")
        places = [
            (item["position"], "failed", 0)
            for item in wire["items"]
            if isinstance(item, dict) and type(item.get("position")) is int and item["position"] >= 0
        ]

        async def write() -> None:
            await self._ledger.failures.add(listed)
            if isinstance(scan, str) and scan and type(number) is int and number >= 0:
                await self._ledger.outcomes.set_places(scan, number, places)
            if isinstance(claim, str) and claim:
                await self._ledger.claims.forget(bucket, keys, lane=lane, claim=claim)

        await self._insist(write)

    async def _requeue(self, batch: Batch, again: Sequence[Again]) -> None:
        """Put items back: the unfinished at once together, the others each after its delay.

        As messages of their own, of which nothing is recorded yet; they carry the token of their claims, so
        that these can go with them.
        """
        batch = replace(batch, id="", claim=batch.claim or batch.id)
        at_once = [entry.item for entry in again if entry.delay_s == 0]
        if at_once:
            await self._queue.enqueue_many([replace(batch, items=tuple(at_once))])
            keys = [item.key for item in at_once]
            await self._hand_over(batch, keys, delay_s=QUEUED_AGAIN_S)
        later = [entry for entry in again if entry.delay_s > 0]
        await self._queue.enqueue_each(
            [(replace(batch, items=(entry.item,)), entry.delay_s) for entry in later]
        )
        keys = [entry.item.key for entry in later if not entry.busy]
        if keys:
            delay_s = max(entry.delay_s for entry in later) + QUEUED_AGAIN_S
            await self._hand_over(batch, keys, delay_s=delay_s)

    async def _hand_over(self, batch: Batch, keys: list[str], *, delay_s: float) -> None:
        await self._ledger.claims.requeue(
            batch.plan.bucket,
            keys,
            owner=self._leases.owner,
            lane=batch.lane,
            claim=batch.claim,
            delay_s=delay_s,
        )


def _was_held(result: Result) -> bool:
    """Whether the item was really begun, so that its claim is ours."""
    if isinstance(result, Again):
        return not result.busy
    return not (isinstance(result, Skipped) and result.reason == "tombstone")


def _was_needed(result: Result) -> bool:
    """Whether the store lacked what a client asked for and an origin had it, though nothing was stored."""
    return isinstance(result, Skipped) and result.reason in _THERE


def _settles(result: Result) -> bool:
    """Whether a failure that was listed of the key is no longer true."""
    if isinstance(result, Skipped):
        return result.reason not in _NOTHING_DONE
    return not isinstance(result, (Again, Failure))
