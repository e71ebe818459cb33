"""From miss events to queued batches: match the rule, plan, claim, enqueue.

Owns the one way by which work reaches the queue. An event counts as accepted only when the queue has it, or
when a claim shows that somebody else's message for the same key will do. Makes no client.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError
from structlog.contextvars import get_contextvars

from scheduler.rules.keys import is_reserved
from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from scheduler.rules.write_back import writes_back
from workers.errors import BrokerUnavailable, QueueFull, described
from workers.ledger.claims import ClaimState, asker
from workers.plan import Batch, Lane, unlistable
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.dispatch.dependency import DependencyRecorder
    from scheduler.misses.event import MissEvent
    from scheduler.rules.model import RuleSet
    from workers.ledger.ledger import Ledger
    from workers.plan import FetchItem, FetchPlan
    from workers.queue.queue import JobQueue

#: Items of one message: enough to spread its cost, few enough to share the work between processes.
BATCH_ITEMS = 100
#: Longest key in bytes of UTF-8 (L8).
MAX_KEY_BYTES = 1024
#: Characters of a sender's id that travel with a job, for the worker's log.
MAX_TRACE = 128
#: Seconds that a measured queue depth is believed.
_DEPTH_TTL_S = 0.25


class RuleSource(Protocol):
    """Where rule sets come from; reading one costs no I/O."""

    def snapshot(self, bucket: str) -> RuleSet | None:
        """The rule set in force, or None when the bucket has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchReport:
    """What became of events; the counts add up to their number."""

    #: The queue has them.
    accepted: int = 0
    #: A message for the same key is on its way already, or the key was named twice.
    duplicate: int = 0
    #: No rule wants them pulled.
    unmatched: int = 0
    #: Known to be absent at every origin (negative cache).
    absent: int = 0
    #: Deleted at the store during the migration.
    tombstoned: int = 0
    #: Unusable: index of the event and the reason.
    refused: tuple[tuple[int, str], ...] = ()
    #: One word for each event, in their order: the names above.
    states: tuple[str, ...] = ()


#: Claim state to the word of the report.
_WORDS = {
    ClaimState.CLAIMED: "accepted",
    ClaimState.DUPLICATE: "duplicate",
    ClaimState.ABSENT: "absent",
    ClaimState.TOMBSTONE: "tombstoned",
}


@dataclass(slots=True)
class _Group:
    """Items that share a plan."""

    plan: FetchPlan
    items: list[FetchItem] = field(default_factory=list)


def key_problem(key: str) -> str | None:
    """Why a key cannot be asked for, or None.

    `empty_key`, `key_too_long` (L8), `control_character`, `not_utf8`, or `reserved_key` for Ferryman's own.
    """
    if not key:
        return "empty_key"
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        return "key_too_long"
    if unlistable(key) is not None:
        return "control_character"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "not_utf8"
    return "reserved_key" if is_reserved(key) else None


def left_out(event: MissEvent, *, buckets: Mapping[str, object], ruleset: RuleSet | None) -> str:
    """Why `dispatch` pulls nothing for an event under this rule set: a refusal, `unmatched`; or empty."""
    problem = "unknown_bucket" if event.bucket not in buckets else key_problem(event.key)
    if problem is not None:
        return problem
    try:
        return "" if _planned(event, ruleset) is not None else "unmatched"
    except PlanRefused as error:
        return error.reason


def _planned(event: MissEvent, ruleset: RuleSet | None) -> tuple[FetchPlan, FetchItem] | None:
    if ruleset is None:
        return None
    facts = RequestFacts(
        method=event.method,
        key=event.key,
        status=event.status,
        headers=event.headers,
        host=event.host,
        scheme=event.scheme,
        query=event.query,
    )
    rule = match(ruleset, facts)
    if rule is None or rule.type is RuleType.REDIRECT or not rule.store.save:
        return None
    return plan(rule, ruleset, event.bucket, facts, kind="event")


class Dispatcher:
    """Dispatches events of every bucket; one per process."""

    def __init__(
        self,
        *,
        rules: RuleSource,
        ledger: Ledger,
        queue: JobQueue,
        buckets: Mapping[str, object],
        max_depth: int,
        dependency: DependencyRecorder | None = None,
    ) -> None:
        self._dependency = dependency
        self._rules = rules
        self._ledger = ledger
        self._queue = queue
        self._buckets = buckets
        self._max_depth = max_depth
        self._depth_until: dict[Lane, float] = {}

    async def note_back(self, bucket: str, keys: Sequence[str], how: str) -> frozenset[str]:
        """Note keys that somebody wrote (TOLD) or deleted (DELETED) at the store: which are written back.

        Raises:
            BrokerUnavailable: Redis does not answer; noting them again is harmless.
        """
        ruleset = self._rules.snapshot(bucket)
        mine = [key for key in keys if writes_back(ruleset, key) is not None]
        try:
            await self._ledger.back.note(bucket, mine, how)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"ledger: {error}") from error
        return frozenset(mine)

    async def dispatch(
        self, events: Sequence[MissEvent], *, lane: Lane = Lane.HOT, ignore_absent: bool = False
    ) -> DispatchReport:
        """Put the pulls that events call for on the queue, in batches.

        Raises:
            QueueFull: the lane is over its bound; nothing was taken.
            BrokerUnavailable: Redis does not answer; some may have been taken: sending all again is harmless.
        """
        await self.admit(lane)
        refused: list[tuple[int, str]] = []
        unmatched = duplicate = 0
        buckets: dict[str, dict[str, tuple[FetchPlan, FetchItem]]] = {}
        words = ["refused"] * len(events)
        places: dict[tuple[str, str], int] = {}
        for index, event in enumerate(events):
            problem = "unknown_bucket" if event.bucket not in self._buckets else key_problem(event.key)
            if problem is not None:
                refused.append((index, problem))
                continue
            wanted = buckets.setdefault(event.bucket, {})
            if event.key in wanted:
                words[index] = "duplicate"
                duplicate += 1
                continue
            try:
                planned = self._plan(event)
            except PlanRefused as error:
                refused.append((index, error.reason))
                continue
            if planned is None:
                words[index] = "unmatched"
                unmatched += 1
            else:
                wanted[event.key] = planned
                places[event.bucket, event.key] = index
        counts = dict.fromkeys(ClaimState, 0)
        now = time.time()
        # 0, unknown, is the oldest: a sender that gives no time may repeat itself days later.
        missing_at = min((min(event.at, now) for event in events), default=now)
        for bucket, wanted in buckets.items():
            if wanted:
                states = await self._send(
                    bucket, wanted, lane, counts, ignore_absent=ignore_absent, missing_at=missing_at
                )
                for key, state in zip(wanted, states, strict=True):
                    words[places[bucket, key]] = _WORDS[state]
                    if state is ClaimState.CLAIMED and self._dependency is not None:
                        event = events[places[bucket, key]]
                        self._dependency.note(bucket, key, referer=event.referer, user_agent=event.user_agent)
        for state, number in counts.items():
            metrics.claimed(state.value, number)
        return DispatchReport(
            accepted=counts[ClaimState.CLAIMED],
            duplicate=duplicate + counts[ClaimState.DUPLICATE],
            unmatched=unmatched,
            absent=counts[ClaimState.ABSENT],
            tombstoned=counts[ClaimState.TOMBSTONE],
            refused=tuple(refused),
            states=tuple(words),
        )

    def _plan(self, event: MissEvent) -> tuple[FetchPlan, FetchItem] | None:
        planned = _planned(event, self._rules.snapshot(event.bucket))
        trace = event.id or str(get_contextvars().get("request_id", ""))
        if planned is None or not trace:
            return planned
        return planned[0], replace(planned[1], request_id=trace[:MAX_TRACE])

    async def _send(
        self,
        bucket: str,
        wanted: Mapping[str, tuple[FetchPlan, FetchItem]],
        lane: Lane,
        counts: dict[ClaimState, int],
        *,
        ignore_absent: bool,
        missing_at: float,
    ) -> list[ClaimState]:
        owner = uuid.uuid4().hex
        keys = list(wanted)
        try:
            states = await self._ledger.claims.claim_many(
                bucket,
                keys,
                lane=lane,
                owner=owner,
                ignore_absent=ignore_absent,
                rules=[asker(fetch_plan) for fetch_plan, _ in wanted.values()],
            )
        except (RedisError, OSError) as error:
            raise _away(error) from error
        claimed: list[str] = []
        # By identity: planning gives the same object for the same plan, and hashing one is not free.
        groups: dict[int, _Group] = {}
        for key, state in zip(keys, states, strict=True):
            counts[state] += 1
            if state is ClaimState.CLAIMED:
                claimed.append(key)
                fetch_plan, item = wanted[key]
                groups.setdefault(id(fetch_plan), _Group(plan=fetch_plan)).items.append(item)
        if not claimed:
            return states
        batches = [
            Batch(
                plan=group.plan,
                items=tuple(group.items[at : at + BATCH_ITEMS]),
                lane=lane,
                claim=owner,
                missing_at=missing_at,
            )
            for group in groups.values()
            for at in range(0, len(group.items), BATCH_ITEMS)
        ]
        await self._queue.enqueue_many(batches)
        try:
            await self._ledger.claims.mark_queued(bucket, claimed, lane=lane, owner=owner)
        except (RedisError, OSError) as error:
            # The queue has them: pending claims expire by themselves, and at worst a key is asked for twice.
            raise _away(error) from error
        return states

    async def dispatch_planned(
        self, fetch_plan: FetchPlan, item: FetchItem, *, lane: Lane = Lane.HOT
    ) -> ClaimState:
        """As `dispatch` for one miss that the caller has matched and planned itself; what its claim said.

        Raises:
            QueueFull: the lane is over its bound; nothing was taken.
            BrokerUnavailable: Redis does not answer; sending again is harmless.
        """
        await self.admit(lane)
        counts = dict.fromkeys(ClaimState, 0)
        wanted = {item.key: (fetch_plan, item)}
        await self._send(fetch_plan.bucket, wanted, lane, counts, ignore_absent=False, missing_at=time.time())
        return next(state for state, count in counts.items() if count)

    async def enqueue(
        self,
        fetch_plan: FetchPlan,
        items: Sequence[FetchItem],
        *,
        lane: Lane,
        scan: str = "",
        batch: int = -1,
    ) -> None:
        """Put planned items on the queue without asking for claims: for scans, and what the front gives away.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        parts = [
            Batch(
                plan=fetch_plan, items=tuple(items[at : at + BATCH_ITEMS]), lane=lane, scan=scan, batch=batch
            )
            for at in range(0, len(items), BATCH_ITEMS)
        ]
        await self._queue.enqueue_many(parts)

    async def admit(self, lane: Lane) -> None:
        """Return when the lane may take more.

        Raises:
            QueueFull: it holds `broker.max_queue_depth` messages or more.
            BrokerUnavailable: Redis does not answer.
        """
        now = time.monotonic()
        if now < self._depth_until.get(lane, 0.0):
            return
        depth = await self._queue.depth(lane)
        if depth.waiting >= self._max_depth:
            msg = f"the {lane} queue holds {depth.waiting} messages, its bound is {self._max_depth}"
            raise QueueFull(msg)
        self._depth_until[lane] = now + _DEPTH_TTL_S


def _away(error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(f"ledger: {described(error)}")
