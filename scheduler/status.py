"""How everything stands, read once: for `ferryman status`, the page and /metrics.

Owns the collecting and its record. A part that cannot be read is a problem in the record, not an error:
a status that fails when something is wrong would be of no use. Knows nothing of how it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import RedisError

from scheduler.back.state import BackStatus, collect_back
from scheduler.logs.board import consumers
from scheduler.rules.in_force.repository import RulesRepository
from scheduler.scan.progress import Progress, progress_of
from scheduler.scan.record.account import Account, account
from scheduler.scan.record.state import ScanStates
from scheduler.scan.shards.view import ShardsView, with_shards
from workers.errors import BrokerUnavailable, FerrymanError, described
from workers.ledger.ledger import Ledger
from workers.origin.control import overview
from workers.origin.control.fleet import Fleet
from workers.plan import Lane
from workers.queue.queue import JobQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from scheduler.config.settings import Settings
    from workers.origin.control.overview import OriginOverview

#: Seconds for one part to be read.
PART_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """One lane, in messages; age in seconds."""

    lane: str
    waiting: int
    running: int
    delayed: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """What became of the items of one rule since the ledger began."""

    bucket: str
    rule: str
    #: By outcome, as `workers.ledger.outcomes.CODES` names them, and `bytes`.
    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus:
    """One log that is followed."""

    instance: str
    path: str
    lag_bytes: int
    lag_s: float
    misses: int
    #: Seconds since the consumer wrote about itself.
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanStatus:
    """One scan: its phase, its account and how far it is; the fields are those of `scan status --json`."""

    name: str
    bucket: str
    phase: str
    paused: bool
    total: Account
    progress: Progress
    waiting: str = ""
    error: str = ""
    #: Its ranges of keys.
    shards: ShardsView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherStatus:
    """A front or consumer that writes per-minute records."""

    name: str
    #: Minutes since its last record.
    silent_minutes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything at one time."""

    #: Unix time in seconds.
    at: float
    queues: tuple[QueueStatus, ...] = ()
    #: Worker processes with a fresh heartbeat.
    workers: int = 0
    rules: tuple[RuleStatus, ...] = ()
    #: Listed failures by bucket, and by reason over all buckets.
    failures: dict[str, int] = field(default_factory=dict)
    failure_reasons: dict[str, int] = field(default_factory=dict)
    origins: tuple[OriginOverview, ...] = ()
    consumers: tuple[ConsumerStatus, ...] = ()
    scans: tuple[ScanStatus, ...] = ()
    watchers: tuple[WatcherStatus, ...] = ()
    #: Buckets whose rules write back: how far their origins are behind.
    back: tuple[BackStatus, ...] = ()
    #: Parts that could not be read, and why.
    problems: dict[str, str] = field(default_factory=dict)


class Sources(Protocol):
    """Where it is read: `scheduler.runtime.Services`, or less."""

    @property
    def settings(self) -> Settings:
        """For the names of buckets."""

    @property
    def redis(self) -> Redis:
        """The ledger's client."""

    @property
    def ledger(self) -> Ledger:
        """Outcomes, failures, minutes."""

    @property
    def queue(self) -> JobQueue:
        """Depths and workers."""

    @property
    def rules(self) -> RulesRepository:
        """For buckets that only the API knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """`Sources` of a process that only looks."""

    settings: Settings
    redis: Redis
    ledger: Ledger
    queue: JobQueue
    rules: RulesRepository


@contextlib.asynccontextmanager
async def open_readers(settings: Settings) -> AsyncIterator[Readers]:
    """Open what `collect` needs and nothing else; a Redis that is away costs 3 s and is no error."""
    async with contextlib.AsyncExitStack() as stack:
        ledger = Ledger.open(settings.broker)
        stack.push_async_callback(ledger.close)
        queue = JobQueue.open(settings.broker)
        stack.push_async_callback(queue.close)
        rules = RulesRepository(ledger.redis, namespace=ledger.namespace)
        with contextlib.suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(PART_TIMEOUT_S):
                await rules.refresh()
        yield Readers(settings=settings, redis=ledger.redis, ledger=ledger, queue=queue, rules=rules)


async def collect(services: Sources, *, reasons: bool = True) -> Status:
    """Read every part, each within 3 s; never raises for a server that is away.

    `reasons` reads the failures' sums by reason.
    """
    parts: dict[str, Callable[[Sources], Awaitable[dict[str, Any]]]] = {
        "queues": _queues,
        "workers": _workers,
        "rules": _rules,
        "failures": partial(_failures, reasons=reasons),
        "origins": _origins,
        "consumers": _consumers,
        "scans": _scans,
        "watchers": _watchers,
        "back": _back,
    }
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}

    async def one(name: str, read: Callable[[Sources], Awaitable[dict[str, Any]]]) -> None:
        try:
            async with asyncio.timeout(PART_TIMEOUT_S):
                found.update(await read(services))
        except TimeoutError:
            problems[name] = f"no answer within {PART_TIMEOUT_S:g} s"
        except (FerrymanError, RedisError, OSError) as error:
            problems[name] = described(error)

    await asyncio.gather(*(one(name, read) for name, read in parts.items()))
    return Status(at=time.time(), **found, problems=problems)


async def _queues(services: Sources) -> dict[str, Any]:
    found = []
    for lane in Lane:
        depth = await services.queue.depth(lane)
        found.append(
            QueueStatus(
                lane=lane.value,
                waiting=depth.waiting,
                running=depth.running,
                delayed=depth.delayed,
                oldest_age_s=round(depth.oldest_age_s, 1),
            )
        )
    return {"queues": tuple(found)}


async def _workers(services: Sources) -> dict[str, Any]:
    return {"workers": await services.queue.workers_alive()}


async def _rules(services: Sources) -> dict[str, Any]:
    found = []
    for bucket in _buckets(services):
        by_rule: dict[str, dict[str, int]] = {}
        for (rule, outcome), n in (await services.ledger.outcomes.counts(bucket)).items():
            by_rule.setdefault(rule, {})[outcome] = n
        found += [RuleStatus(bucket=bucket, rule=rule, counts=by_rule[rule]) for rule in sorted(by_rule)]
    return {"rules": tuple(found)}


async def _failures(services: Sources, *, reasons: bool) -> dict[str, Any]:
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    for bucket in _buckets(services):
        counts[bucket] = await services.ledger.failures.count(bucket)
        if reasons and counts[bucket]:
            for reason, number in (await services.ledger.failures.reasons(bucket)).items():
                sums[reason] = sums.get(reason, 0) + number
    return {"failures": counts, "failure_reasons": dict(sorted(sums.items(), key=lambda pair: -pair[1]))}


async def _origins(services: Sources) -> dict[str, Any]:
    fleet = Fleet(services.redis, namespace=services.ledger.namespace, process="status")
    return {"origins": tuple(await overview.read(fleet))}


async def _consumers(services: Sources) -> dict[str, Any]:
    now = time.time()
    found = []
    known = await consumers(services.redis, namespace=services.ledger.namespace)
    for instance, state in sorted(known.items()):
        found += [
            ConsumerStatus(
                instance=instance,
                path=file["path"],
                lag_bytes=int(file["lag_bytes"] or 0),
                lag_s=float(file["lag_s"]),
                misses=int(file["misses"]),
                silent_s=round(max(0.0, now - state["at"]), 1),
            )
            for file in state.get("files", ())
        ]
    return {"consumers": tuple(found)}


async def _scans(services: Sources) -> dict[str, Any]:
    found = []
    namespace = services.ledger.namespace
    for record in await ScanStates(services.redis, namespace=namespace).recent():
        state, shards = await with_shards(services.redis, namespace, record)
        total = (await account(state, services.ledger.outcomes)).get("", Account())
        found.append(
            ScanStatus(
                name=state.name,
                bucket=state.options.bucket,
                phase=state.phase,
                paused=state.paused,
                total=total,
                progress=progress_of(state, total, keys_left=shards.keys_left),
                waiting=state.waiting,
                error=state.error,
                shards=shards,
            )
        )
    return {"scans": tuple(found)}


async def _watchers(services: Sources) -> dict[str, Any]:
    minute = int(time.time()) // 60
    known = await services.ledger.minutes.watchers()
    return {
        "watchers": tuple(
            WatcherStatus(name=name, silent_minutes=max(0, minute - last))
            for name, last in sorted(known.items())
        )
    }


async def _back(services: Sources) -> dict[str, Any]:
    return {"back": await collect_back(services.ledger.back, services.rules, _buckets(services))}


def _buckets(services: Sources) -> list[str]:
    return sorted({*services.settings.buckets, *services.rules.buckets()})


def to_json(value: Any) -> Any:
    """The record as plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: to_json(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    return value
