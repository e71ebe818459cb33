"""Working off one queue message: a batch of items, each on its own.

Owns what surrounds `transfer.move`: claims, the order of recording, retries, poison messages and stopping. A
failing item never fails its batch. Recording comes before releasing claims, and both before the message is
acknowledged, so whatever dies in between repeats work and loses none (guarantee 3).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from workers.background import end
from workers.claims import RunState
from workers.errors import BrokerUnavailable, OriginsExhausted, TransferError, WireError
from workers.failures import Failure, unread_failures
from workers.plan import AbsentAtOrigin, AlreadyPresent, Attempt, Batch, Skipped, Stored, decode_batch
from workers.retry import decide, root_cause
from workers.transfer import move

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from workers.leases import LeaseKeeper
    from workers.ledger import Ledger
    from workers.origin.fetch import Fetcher
    from workers.plan import FetchItem
    from workers.queue import JobQueue
    from workers.settings import LimitSettings
    from workers.store.client import ObjectStore

#: Deliveries of one message that began and did not end, before it is called poison (P49).
MAX_DELIVERIES = 5
#: Seconds between records of a batch that takes long.
RECORD_EVERY_S = 2.0
#: Seconds until an item that somebody else is moving is looked at again; less than the claims' mark lasts.
BUSY_DELAY_S = 5.0
#: Seconds after which what was known of the store is old: less than the claims' mark lasts.
STALE_S = 20.0
#: Seconds until a batch of a paused scan is looked at again.
PAUSED_DELAY_S = 3.0
#: Seconds between attempts to reach a Redis that is away.
REDIS_RETRY_S = 1.0
#: Seconds beyond its delay that a returned item's claim counts as queued.
QUEUED_AGAIN_S = 600.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RuleEpochs(Protocol):
    """Which rules are in force, as workers see it."""

    async def is_live(self, bucket: str, rule: str, epoch: int) -> bool:
        """Whether a job of this rule and version may still run (SEMANTICS.md 2.7)."""


class Observer(Protocol):
    """Who counts outcomes for metrics."""

    def finished(self, rule: str, outcome: str, size: int, duration_s: float) -> None:
        """One item ended with an outcome; `size` in bytes, 0 when nothing was stored."""

    def failed(self, rule: str, reason: str, *, listed: bool) -> None:
        """One item failed; `listed` when no further attempt follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """The item goes back to the queue; after `delay_s` seconds, or at once when it is 0."""

    item: FetchItem
    delay_s: float
    reason: str
    #: Somebody else moves it: its claim is not ours to hand over.
    busy: bool = False


#: Reasons to skip that say nothing about the key: what was listed of it before stays.
_NOTHING_DONE = frozenset({"scan_cancelled", "rule_withdrawn"})

#: What became of an item in this run of its message.
_Result = Stored | AlreadyPresent | AbsentAtOrigin | Skipped | Failure | _Again


class BatchRunner:
    """Works off batches in one process; `stop()` makes it return what it has not finished."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        queue: JobQueue,
        fetcher: Fetcher,
        store: ObjectStore,
        epochs: RuleEpochs,
        leases: LeaseKeeper,
        limits: LimitSettings,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._fetcher = fetcher
        self._store = store
        self._epochs = epochs
        self._leases = leases
        self._limits = limits
        self._observer = observer
        self._slots = asyncio.Semaphore(limits.item_concurrency)
        self._moving: set[asyncio.Task[_Result]] = set()
        self._stopping = asyncio.Event()
        self._rng = random.Random()

    def stop(self) -> None:
        """Begin no further item; those running get `limits.drain_s` seconds. Call it on the event loop."""
        self._stopping.set()
        asyncio.get_running_loop().call_later(self._limits.drain_s, self._withdraw_all)

    def _withdraw_all(self) -> None:
        for task in self._moving:
            task.cancel()

    async def run(self, wire: Mapping[str, Any]) -> None:
        """Work off one message.

        Raises:
            WireError: the message cannot be read; its keys, as far as they can be told, are listed, and it
            belongs to the dead letters.
        """
        try:
            batch = decode_batch(dict(wire))
        except WireError as error:
            unreadable = unread_failures(wire, str(error))
            await self._insist(lambda: self._ledger.failures.add(unreadable))
            raise
        with structlog.contextvars.bound_contextvars(job=batch.id, bucket=batch.plan.bucket):
            token = uuid.uuid4().hex
            deliveries = await self._insist(lambda: self._ledger.begin_delivery(batch.id, token))
            if deliveries > MAX_DELIVERIES:
                await self._poison(batch, deliveries)
            else:
                await self._work(batch, redelivered=deliveries > 1)
            await self._insist(lambda: self._ledger.end_delivery(batch.id))

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call Redis until it answers.

        A message is acknowledged through the same Redis, so nothing is gained by giving up; a process that is
        told to stop meanwhile is ended by its supervisor, and the message returns by its lost heartbeat.
        """
        while True:
            try:
                return await call()
            except (RedisError, OSError, BrokerUnavailable) as error:
                log.warning("redis_away", error=str(error), retry_s=REDIS_RETRY_S)
                await asyncio.sleep(REDIS_RETRY_S)

    async def _poison(self, batch: Batch, deliveries: int) -> None:
        log.error("poison_message", deliveries=deliveries, items=len(batch.items))
        message = f"its worker died {deliveries - 1} times before the message was finished"
        left = await self._unsettled(batch)
        await self._record(
            batch, [(item, self._failure(batch, item, "poison_message", message)) for _, item in left]
        )

    async def _work(self, batch: Batch, *, redelivered: bool) -> None:
        plan = batch.plan
        began = time.monotonic()
        if not await self._epochs.is_live(plan.bucket, plan.rule, plan.epoch):
            withdrawn = [(item, Skipped(key=item.key, reason="rule_withdrawn")) for item in batch.items]
            await self._record(batch, withdrawn)
            return
        if batch.scan and await self._stopped(batch):
            return
        numbered = await self._unsettled(batch)
        keys = [item.key for _, item in numbered]
        states = await self._insist(
            lambda: self._ledger.claims.start(
                plan.bucket, keys, owner=self._leases.owner, lane=batch.lane, claim=batch.claim
            )
        )
        # Whoever waited long, or comes again, may find the key in the store: a look costs the origin nothing.
        old = redelivered or time.time() - batch.missing_at > STALE_S
        ready: list[tuple[FetchItem, _Result]] = []
        tasks: dict[asyncio.Task[_Result], FetchItem] = {}
        for (index, item), state in zip(numbered, states, strict=True):
            if state is RunState.TOMBSTONE:
                ready.append((item, Skipped(key=item.key, reason="tombstone")))
            elif state is RunState.BUSY or self._leases.holds(plan.bucket, item.key):
                # By another process, or by this one for a message that came twice.
                delay_s = BUSY_DELAY_S * self._rng.uniform(0.5, 1.5)
                # A dead process's lease, perhaps: what it wrote under this message is ours (S11).
                again = replace(item, tried_as=item.tried_as or f"{batch.id}-{index}")
                ready.append((item, _Again(item=again, delay_s=delay_s, reason="busy", busy=True)))
            else:
                self._leases.hold(plan.bucket, [item.key])
                look_first = old or item.attempt > 0 or item.tried_as != "" or state is RunState.LOOK
                tasks[asyncio.create_task(self._item(batch, item, index, look_first=look_first))] = item
        pending = set(tasks)
        try:
            while pending or ready:
                if pending:
                    done, pending = await asyncio.wait(pending, timeout=RECORD_EVERY_S)
                    ready += [(tasks[task], task.result()) for task in done]
                if ready:
                    await self._record(batch, ready, started=True)
                    ready = []
        except Exception as error:
            # A fault of ours in recording: what is not written down must not vanish with the message.
            log.exception("batch_failed_unexpectedly", items=len(ready) + len(pending))
            await end(*pending)
            message = f"{type(error).__name__}: {error}"
            left = [item for item, _ in ready] + [tasks[task] for task in pending]
            failed = [(item, self._failure(batch, item, "internal_error", message)) for item in left]
            await self._record(batch, failed, started=True)
        log.info("batch_done", rule=plan.rule, items=len(keys), duration_s=round(time.monotonic() - began, 3))

    async def _unsettled(self, batch: Batch) -> list[tuple[int, FetchItem]]:
        """The items by their index, without what another delivery, or message, brought to its end (P42)."""
        numbered = list(enumerate(batch.items))
        if not batch.scan:
            return numbered
        positions = [item.position for item in batch.items]
        settled = await self._insist(
            lambda: self._ledger.outcomes.settled(batch.scan, batch.batch, positions)
        )
        if settled:
            log.info("batch_repeated", scan=batch.scan, batch=batch.batch, settled=len(settled))
        return [(index, item) for index, item in numbered if item.position not in settled]

    async def _stopped(self, batch: Batch) -> bool:
        """Whether an operator stopped the scan: a paused one's batch waits, a cancelled one's is dropped."""
        order = await self._insist(lambda: self._ledger.outcomes.scan_stop(batch.scan))
        if order == "pause":
            later = replace(batch, id="")
            await self._insist(lambda: self._queue.enqueue_many([later], delay_s=PAUSED_DELAY_S))
        elif order == "cancel":
            dropped = [(item, Skipped(key=item.key, reason="scan_cancelled")) for item in batch.items]
            await self._record(batch, dropped)
        return order is not None

    async def _item(self, batch: Batch, item: FetchItem, index: int, *, look_first: bool) -> _Result:
        # The same over redeliveries and retries: an object of an earlier try is ours (S11).
        attempt = item.tried_as or f"{batch.id}-{index}"
        async with self._slots:
            if self._stopping.is_set():
                return _Again(item=item, delay_s=0.0, reason="withdrawn")
            task = asyncio.current_task()
            assert task is not None
            self._moving.add(task)
            began = time.monotonic()
            try:
                outcome = await move(
                    batch.plan,
                    item,
                    fetcher=self._fetcher,
                    store=self._store,
                    lane=batch.lane,
                    attempt=attempt,
                    now=_utc_now,
                    max_object_bytes=self._limits.max_object_bytes,
                    look_first=look_first,
                )
            except TransferError as error:
                return self._failed(batch, replace(item, tried_as=attempt), error)
            except asyncio.CancelledError:
                if self._stopping.is_set():
                    item = replace(item, tried_as=attempt)
                    return _Again(item=item, delay_s=0.0, reason="withdrawn")
                raise
            except Exception as error:
                # A fault of ours on one key must neither end its batch nor vanish.
                log.exception("item_failed_unexpectedly", key=item.key)
                return self._failure(batch, item, "internal_error", f"{type(error).__name__}: {error}")
            finally:
                self._moving.discard(task)
            size = outcome.size if isinstance(outcome, Stored) else 0
            self._observer.finished(batch.plan.rule, outcome.kind, size, time.monotonic() - began)
            if item.request_id:  # somebody asked for this very key: a scan's items have none
                told = {"attempt": attempt, **_asked(item)}
                log.info("item_done", key=item.key, outcome=outcome.kind, bytes=size, **told)
            return outcome

    def _failed(self, batch: Batch, item: FetchItem, error: TransferError) -> _Result:
        cause = root_cause(error)
        again = decide(error, attempt=item.attempt, max_attempts=self._limits.max_attempts, rng=self._rng)
        self._observer.failed(batch.plan.rule, cause.reason, listed=again is None)
        attempts = error.attempts if isinstance(error, OriginsExhausted) else ()
        if again is None:
            log.warning("item_failed", key=item.key, reason=cause.reason, error=str(error), **_asked(item))
            return self._failure(batch, item, cause.reason, str(error), attempts)
        return _Again(
            item=replace(item, attempt=again.attempt, pick=None), delay_s=again.delay_s, reason=cause.reason
        )

    @staticmethod
    def _failure(
        batch: Batch, item: FetchItem, reason: str, message: str, attempts: tuple[Attempt, ...] = ()
    ) -> Failure:
        return Failure(
            bucket=batch.plan.bucket,
            key=item.key,
            reason=reason,
            message=message,
            rule=batch.plan.rule,
            attempts=attempts,
            tries=item.attempt + 1,
            lane=batch.lane.value,
            scan=batch.scan,
            batch=batch.batch,
            item=item,
        )

    async def _record(
        self, batch: Batch, results: Sequence[tuple[FetchItem, _Result]], *, started: bool = False
    ) -> None:
        """Write down what became of items, then let go of their claims.

        `started`: the items' claims are ours, but those of the busy and of tombstones.
        """
        plan, owner = batch.plan, self._leases.owner
        held = {item.key for item, result in results if started and _was_held(result)}
        again = [result for _, result in results if isinstance(result, _Again)]
        failures = [result for _, result in results if isinstance(result, Failure)]
        finished = [item.key for item, result in results if not isinstance(result, _Again)]
        in_store = [item.key for item, result in results if isinstance(result, (Stored, AlreadyPresent))]
        ended = held.intersection(finished).difference(in_store)
        dropped = set(finished).difference(held)
        good = [item.key for item, result in results if _settles(result)]
        absent = [item.key for item, result in results if isinstance(result, AbsentAtOrigin)]
        counts: Counter[tuple[str, str]] = Counter()
        needed: Counter[str] = Counter()
        places: list[tuple[int, str, int]] = []
        for item, result in results:
            if isinstance(result, _Again):
                continue
            kind = "failed" if isinstance(result, Failure) else result.kind
            size = result.size if isinstance(result, Stored) else 0
            counts[plan.rule, kind] += 1
            counts[plan.rule, "bytes"] += size
            if not batch.scan and _was_needed(result):
                needed[plan.rule] += 1
            places.append((item.position, kind, size))

        async def write() -> None:
            await self._ledger.failures.add(failures)
            if batch.scan:
                await self._ledger.outcomes.set_places(batch.scan, batch.batch, places)
            # A retry that came good clears the failure an earlier attempt may have listed.
            await self._ledger.failures.remove(plan.bucket, good)
            await self._ledger.claims.mark_absent(plan.bucket, absent, ttl_s=plan.absent_ttl_s)
            await self._ledger.claims.finish(plan.bucket, in_store, owner=owner)
            await self._ledger.claims.release(plan.bucket, sorted(ended), owner=owner)
            if batch.claim:
                await self._ledger.claims.forget(
                    plan.bucket, sorted(dropped), lane=batch.lane, claim=batch.claim
                )
            await self._ledger.outcomes.count(plan.bucket, counts, needed=needed)

        # Apart from the rest, which may be told twice: each repetition of this is one more message.
        await self._insist(lambda: self._requeue(batch, again))
        await self._insist(write)
        self._leases.drop(plan.bucket, held)

    async def _requeue(self, batch: Batch, again: Sequence[_Again]) -> None:
        """Put items back: the unfinished at once together, the others each after its delay."""
        at_once = [entry.item for entry in again if entry.delay_s == 0]
        if at_once:
            await self._queue.enqueue_many([replace(batch, items=tuple(at_once))])
            keys = [item.key for item in at_once]
            await self._hand_over(batch, keys, delay_s=QUEUED_AGAIN_S)
        later = [entry for entry in again if entry.delay_s > 0]
        await self._queue.enqueue_each(
            [(replace(batch, id="", items=(entry.item,)), entry.delay_s) for entry in later]
        )
        keys = [entry.item.key for entry in later if not entry.busy]
        if keys:
            delay_s = max(entry.delay_s for entry in later) + QUEUED_AGAIN_S
            await self._hand_over(batch, keys, delay_s=delay_s)

    async def _hand_over(self, batch: Batch, keys: list[str], *, delay_s: float) -> None:
        await self._ledger.claims.requeue(
            batch.plan.bucket, keys, owner=self._leases.owner, lane=batch.lane, delay_s=delay_s
        )


def _asked(item: FetchItem) -> dict[str, str]:
    """For a log line: the request that wanted the item, when there is one."""
    return {"request_id": item.request_id} if item.request_id else {}


def _was_held(result: _Result) -> bool:
    """Whether the item was really begun, so that its claim is ours."""
    if isinstance(result, _Again):
        return not result.busy
    return not (isinstance(result, Skipped) and result.reason == "tombstone")


def _was_needed(result: _Result) -> bool:
    """Whether the store lacked what a client asked for and an origin had it."""
    return isinstance(result, Stored) or (isinstance(result, Skipped) and result.reason == "too_large")


def _settles(result: _Result) -> bool:
    """Whether a failure that was listed of the key is no longer true."""
    if isinstance(result, Skipped):
        return result.reason not in _NOTHING_DONE
    return not isinstance(result, (_Again, Failure))


def _utc_now() -> datetime:
    return datetime.now(tz=UTC)
