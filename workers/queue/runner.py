"""Working off one queue message: a batch of items, each on its own.

Owns what surrounds one move (`transfer`): claims, retries, poison messages and stopping. A failing item never
fails its batch. What became of items is written down by `recording` before the message is acknowledged, so
whatever dies in between repeats work and loses none (guarantee 3).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from workers.errors import OriginsExhausted, TransferError, WireError, described
from workers.ledger.claims import RunState
from workers.ledger.failures import Failure
from workers.plan import AlreadyPresent, Batch, Skipped, Stored, decode_batch
from workers.queue.hands import Hands
from workers.queue.recording import Again, Insisting, Recorder, Result
from workers.queue.retry import decide, root_cause
from workers.transfer import Try

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from workers.answers import Attempt
    from workers.ledger.ledger import Ledger
    from workers.plan import FetchItem
    from workers.queue.leases import LeaseKeeper
    from workers.queue.queue import JobQueue
    from workers.settings import LimitSettings
    from workers.transfer import Mover

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


class _Job(NamedTuple):
    """An item whose claim is ours, for this run of its message; made for every one."""

    item: FetchItem
    this: Try
    #: Another message of the same try has recorded it already, perhaps.
    recorded: bool


class BatchRunner:
    """Works off batches in one process; `stop()` makes it return what it has not finished."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        queue: JobQueue,
        mover: Mover,
        epochs: RuleEpochs,
        leases: LeaseKeeper,
        limits: LimitSettings,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._mover = mover
        self._epochs = epochs
        self._leases = leases
        self._limits = limits
        self._observer = observer
        self._insist = Insisting()
        self._recorder = Recorder(ledger=ledger, queue=queue, leases=leases, insist=self._insist)
        self._hands = Hands(limits.item_concurrency)
        self._stopping = asyncio.Event()
        self._rng = random.Random()

    def stop(self) -> None:
        """Begin no further item; those running get `limits.drain_s` seconds. Call it on the event loop."""
        self._stopping.set()
        asyncio.get_running_loop().call_later(self._limits.drain_s, self._hands.interrupt)

    async def run(self, wire: Mapping[str, Any]) -> None:
        """Work off one message.

        Raises:
            WireError: the message cannot be read; its keys, as far as they can be told, are listed, and it
            belongs to the dead letters.
        """
        try:
            batch = decode_batch(dict(wire))
        except WireError as error:
            await self._recorder.unread(wire, str(error))
            raise
        with structlog.contextvars.bound_contextvars(job=batch.id, bucket=batch.plan.bucket):
            token = uuid.uuid4().hex
            deliveries = await self._insist(lambda: self._ledger.begin_delivery(batch.id, token))
            repeated = False
            while True:
                unanswered = self._insist.unanswered
                await self._work(batch, deaths=deliveries - 1, repeated=repeated)
                await self._insist(lambda: self._ledger.end_delivery(batch.id))
                if unanswered == self._insist.unanswered:
                    return
                # A Redis that came back without its last second has forgotten what was recorded in it: claims
                # would stay queued, and no message would stand behind them.
                repeated = True

    async def _without_poison(
        self, batch: Batch, numbered: list[tuple[int, FetchItem]], deaths: int
    ) -> list[tuple[int, FetchItem]]:
        """The items but those whose workers died too often, which become listed failures (P49)."""
        left = [(index, item) for index, item in numbered if item.deaths + deaths < MAX_DELIVERIES]
        deadly = [item for _, item in numbered if item.deaths + deaths >= MAX_DELIVERIES]
        if deadly:
            log.error("poison_message", deaths=deaths, items=len(deadly))
            message = "its worker died {} times before the message was finished"
            failed = [
                (item, self._failure(batch, item, "poison_message", message.format(item.deaths + deaths)))
                for item in deadly
            ]
            await self._recorder.record(batch, failed, partly=bool(left))
        return left

    async def _work(self, batch: Batch, *, deaths: int, repeated: bool) -> None:
        """`deaths`: how often the message was delivered before and not finished; `repeated`: in this one."""
        plan = batch.plan
        began = time.monotonic()
        redelivered = deaths > 0 or repeated
        if not await self._epochs.is_live(plan.bucket, plan.rule, plan.epoch):
            withdrawn = [(item, Skipped(key=item.key, reason="rule_withdrawn")) for item in batch.items]
            await self._recorder.record(batch, withdrawn)
            return
        if batch.scan and await self._stopped(batch, deaths):
            return
        numbered = await self._unsettled(batch, redelivered=redelivered)
        numbered = await self._without_poison(batch, numbered, deaths)
        keys = [item.key for _, item in numbered]
        states = await self._insist(
            lambda: self._ledger.claims.start(
                plan.bucket, keys, owner=self._leases.owner, lane=batch.lane, claim=batch.claim
            )
        )
        # Whoever waited long, or comes again, may find the key in the store: a look costs the origin nothing.
        old = redelivered or time.time() - batch.missing_at > STALE_S
        ready: list[tuple[FetchItem, Result]] = []
        jobs: list[_Job] = []
        held = self._leases.held(plan.bucket)
        for (index, item), state in zip(numbered, states, strict=True):
            # The same over redeliveries and retries: an object of an earlier try is ours (S11).
            attempt = item.tried_as or f"{batch.id}-{index}"
            if state is RunState.TOMBSTONE:
                ready.append((item, Skipped(key=item.key, reason="tombstone")))
            elif state is RunState.BUSY or item.key in held:
                # By another process, or by this one for a message that came twice.
                delay_s = BUSY_DELAY_S * self._rng.uniform(0.5, 1.5)
                # A dead process's lease, perhaps: what it wrote under this message is ours (S11), and that it
                # died is not forgotten with the message (P49).
                again = replace(item, tried_as=attempt, deaths=item.deaths + deaths)
                ready.append((item, Again(item=again, delay_s=delay_s, reason="busy", busy=True)))
            else:
                held.add(item.key)
                this = Try(
                    attempt=attempt,
                    look_first=(
                        old or item.attempt > 0 or item.tried_as != "" or state is not RunState.STARTED
                    ),
                    # By a process that died; a failed try of a living one has cleaned up after itself.
                    tried_before=redelivered or (item.tried_as != "" and item.attempt == 0),
                )
                jobs.append(_Job(item, this, state is RunState.STORED))
        await self._work_off(batch, jobs, ready)
        log.info("batch_done", rule=plan.rule, items=len(keys), duration_s=round(time.monotonic() - began, 3))

    async def _work_off(
        self, batch: Batch, jobs: Sequence[_Job], ready: list[tuple[FetchItem, Result]]
    ) -> None:
        """Do the jobs and record what came of them; `ready` needs recording only."""

        def begin() -> None:
            structlog.contextvars.bind_contextvars(job=batch.id, bucket=batch.plan.bucket)

        left = [*(item for item, _ in ready), *(job.item for job in jobs)]
        share = self._hands.work_off(jobs, partial(self._item, batch), begin=begin)
        try:
            while ready or share.pending:
                ready += [(job.item, result) for job, result in await share.done(RECORD_EVERY_S)]
                if ready:
                    await self._recorder.record(batch, ready, started=True, partly=share.pending)
                    settled = {id(item) for item, _ in ready}
                    left = [item for item in left if id(item) not in settled]
                    ready = []
        except Exception as error:
            # A fault of ours in recording: what is not written down must not vanish with the message.
            log.exception("batch_failed_unexpectedly", items=len(left))
            await self._hands.withdraw(share)
            message = described(error)
            failed = [(item, self._failure(batch, item, "internal_error", message)) for item in left]
            await self._recorder.record(batch, failed, started=True)

    async def _unsettled(self, batch: Batch, *, redelivered: bool) -> list[tuple[int, FetchItem]]:
        """The items by their index, without what another delivery, or message, brought to its end (P42)."""
        numbered = list(enumerate(batch.items))
        if redelivered:
            recorded = await self._insist(lambda: self._ledger.done(batch.id))
            numbered = [(index, item) for index, item in numbered if item.key not in recorded]
        if not batch.scan:
            return numbered
        positions = [item.position for item in batch.items]
        settled = await self._insist(
            lambda: self._ledger.outcomes.settled(batch.scan, batch.batch, positions)
        )
        if settled:
            log.info("batch_repeated", scan=batch.scan, batch=batch.batch, settled=len(settled))
            if batch.claim:  # a Redis that came back without its last second may have them once more
                done = [item.key for _, item in numbered if item.position in settled]
                await self._insist(
                    lambda: self._ledger.claims.forget(
                        batch.plan.bucket, done, lane=batch.lane, claim=batch.claim
                    )
                )
        return [(index, item) for index, item in numbered if item.position not in settled]

    async def _stopped(self, batch: Batch, deaths: int) -> bool:
        """Whether an operator stopped the scan: a paused one's batch waits, a cancelled one's is dropped."""
        order = await self._insist(lambda: self._ledger.outcomes.scan_stop(batch.scan))
        if order == "pause":
            items = tuple(replace(item, deaths=item.deaths + deaths) for item in batch.items)
            later = replace(batch, id="", items=items)
            await self._insist(lambda: self._queue.enqueue_many([later], delay_s=PAUSED_DELAY_S))
        elif order == "cancel":
            dropped = [(item, Skipped(key=item.key, reason="scan_cancelled")) for item in batch.items]
            await self._recorder.record(batch, dropped)
        return order is not None

    async def _item(self, batch: Batch, job: _Job) -> Result:
        item, attempt = job.item, job.this.attempt
        if self._stopping.is_set():
            return Again(item=replace(item, tried_as=attempt), delay_s=0.0, reason="withdrawn")
        began = time.monotonic()
        try:
            outcome = await self._mover.move(batch.plan, item, job.this, lane=batch.lane)
        except TransferError as error:
            return self._failed(batch, replace(item, tried_as=attempt), error)
        except asyncio.CancelledError:
            if self._stopping.is_set():
                return Again(item=replace(item, tried_as=attempt), delay_s=0.0, reason="withdrawn")
            raise
        except Exception as error:
            # A fault of ours on one key must neither end its batch nor vanish.
            log.exception("item_failed_unexpectedly", key=item.key)
            return self._failure(batch, item, "internal_error", described(error))
        if job.recorded and isinstance(outcome, Stored) and not outcome.origin:
            # Ours, but another message of the same try has said so already (P42).
            outcome = AlreadyPresent(key=item.key, etag=outcome.etag, size=outcome.size)
        size = outcome.size if isinstance(outcome, Stored) else 0
        self._observer.finished(batch.plan.rule, outcome.kind, size, time.monotonic() - began)
        if item.request_id:  # somebody asked for this very key: a scan's items have none
            told = {"attempt": attempt, **_asked(item)}
            log.info("item_done", key=item.key, outcome=outcome.kind, bytes=size, **told)
        return outcome

    def _failed(self, batch: Batch, item: FetchItem, error: TransferError) -> Result:
        cause = root_cause(error)
        again = decide(error, attempt=item.attempt, max_attempts=self._limits.max_attempts, rng=self._rng)
        self._observer.failed(batch.plan.rule, cause.reason, listed=again is None)
        attempts = error.attempts if isinstance(error, OriginsExhausted) else ()
        if again is None:
            log.warning("item_failed", key=item.key, reason=cause.reason, error=str(error), **_asked(item))
            return self._failure(batch, item, cause.reason, str(error), attempts)
        return Again(
            item=replace(item, attempt=again.attempt, pick=None, deaths=0),
            delay_s=again.delay_s,
            reason=cause.reason,
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
            item=replace(item, deaths=0),  # a retry on demand begins anew
        )


def _asked(item: FetchItem) -> dict[str, str]:
    """For a log line: the request that wanted the item, when there is one."""
    return {"request_id": item.request_id} if item.request_id else {}
