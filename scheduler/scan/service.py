"""Starting scans and finding a coordinator for them.

Owns what the command line and the admin API share: turning a request into a scan record, and the loop by
which `scan serve` (a child of `up` and of fronts) runs whatever scan has no coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
import uuid
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError

from scheduler.machine.embedded import store_identity
from scheduler.scan.held import TICK_S
from scheduler.scan.inventory.opening import SOURCES, version_of
from scheduler.scan.progress import progress_of
from scheduler.scan.record.account import account
from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.record.state import (
    NAME,
    VERIFICATIONS,
    ScanOptions,
    ScanState,
    ScanStates,
    not_to_be_continued,
)
from scheduler.scan.reverse_run import ReverseCoordinator
from scheduler.scan.run import Coordinator
from scheduler.scan.shards.lane import THREADS, ShardLane, shard_waits
from scheduler.scan.shards.leftovers import serve_leftovers
from scheduler.scan.shards.records import ShardStates, say_working
from scheduler.scan.shards.view import with_shards
from scheduler.scan.verify.cut_verify import CutVerification, coordinated_here
from scheduler.scan.verify.verify import RUNS
from workers.background import end
from workers.errors import BrokerUnavailable, ConfigError, described
from workers.windows import parse_window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.runtime import Services
    from scheduler.scan.held import HeldRun
    from scheduler.scan.record.state import Order

#: Seconds between looks for scans without a coordinator.
LOOK_S = 2.0
#: More are no help: each has a record that is read twice a second.
MOST_SHARDS = 2_000
#: What makes an object at the origin another one than ours, unless `compare` says otherwise.
REVERSE_COMPARE = ("size", "digest", "mtime")
#: Options that say what happens to keys on their way into the store.
_NOT_IN_REVERSE = ("limit", "rate", "windows", "replace")
_NAME = re.compile(NAME)
_OPTIONS: TypeAdapter[ScanOptions] = TypeAdapter(ScanOptions)

log = structlog.get_logger(__name__)


class WrongScan(ConfigError):
    """A scan was asked for wrongly: `fields` has what is wrong with each option, or with `name`."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("\n".join(text for _, text in problems))
        self.fields: dict[str, str] = {}
        for field, text in problems:
            self.fields.setdefault(field, text)


def scan_options(settings: Settings, name: str, given: Mapping[str, Any]) -> ScanOptions:
    """The options of a scan: what was given, over what `scans.<name>` in config.yaml says.

    Raises:
        WrongScan: the name, the bucket or an option is wrong; all problems at once.
    """
    if not _NAME.fullmatch(name):
        msg = f"scan name {name!r}: 1 to 63 of a-z, 0-9, dot, hyphen and underscore"
        raise WrongScan([("name", msg)])
    unknown = sorted(set(given) - set(ScanOptions.__dataclass_fields__))
    if unknown:
        what = ", ".join(ScanOptions.__dataclass_fields__)
        msg = f"scan {name}: unknown option {unknown[0]!r}; known: {what}"
        raise WrongScan([(unknown[0], msg)])
    known = settings.scans.get(name)
    merged: dict[str, Any] = {}
    if known is not None:
        names = ("bucket", "inventory", "prefix", "allow_empty", "max_absent")
        merged = {name: getattr(known, name) for name in names}
    merged |= {key: value for key, value in given.items() if value is not None}
    if merged.get("reverse"):
        merged["inventory"] = {}
        merged.setdefault("compare", REVERSE_COMPARE)
    try:
        options = _OPTIONS.validate_python(merged)
    except ValidationError as error:
        has = ", ".join(sorted(settings.scans)) or "none"
        missing = f"needed, because config.yaml has no scan of this name; it has: {has}"
        wrong = [
            (".".join(map(str, row["loc"])), missing if row["type"] == "missing" else row["msg"])
            for row in error.errors()
        ]
        raise WrongScan(
            [(place.partition(".")[0], f"scan {name}: {place}: {text}") for place, text in wrong]
        ) from error
    problems: list[tuple[str, str]] = []
    if options.shards != "auto" and not 1 <= options.shards <= MOST_SHARDS:
        text = f"scan {name}: shards {options.shards}: 1 to {MOST_SHARDS}, or auto"
        problems.append(("shards", text))
    if not 0 <= options.max_absent <= 1:
        problems.append(("max_absent", f"scan {name}: max_absent {options.max_absent}: 0 to 1"))
    if options.bucket not in settings.buckets:
        known_buckets = ", ".join(sorted(settings.buckets)) or "none"
        text = f"scan {name}: bucket {options.bucket!r} is not configured; known: {known_buckets}"
        problems.append(("bucket", text))
    if options.reverse:
        if given.get("inventory"):
            text = f"scan {name}: reverse: the store is the inventory, so none can be given"
            problems.append(("inventory", text))
        for option in _NOT_IN_REVERSE:
            if getattr(options, option):
                text = f"scan {name}: reverse: {option} does not hold for the way back; leave it out"
                problems.append((option, text))
    elif len([source for source in options.inventory if source in SOURCES]) != 1:
        found = ", ".join(map(repr, options.inventory)) or "nothing"
        kinds = ", ".join(sorted(SOURCES))
        problems.append(
            ("inventory", f"scan {name}: inventory: exactly one of {kinds} is expected, found {found}")
        )
    for which in ("include", "exclude"):
        for pattern in getattr(options, which):
            try:
                re.compile(pattern)
            except re.error as error:
                problems.append((which, f"scan {name}: {which} {pattern!r}: {error}"))
    for text in options.windows:
        try:
            parse_window(text)
        except ValueError as error:
            problems.append(("windows", f"scan {name}: windows: {error}"))
    if problems:
        raise WrongScan(problems)
    return options


class UnknownScan(ConfigError):
    """There is no scan of that name."""


class ScanService:
    """Scans of one installation, as commands and the API see them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        namespace = services.settings.broker.namespace
        self.states = ScanStates(services.redis, namespace=namespace)
        self.verifications = ScanStates(services.redis, namespace=namespace, records=VERIFICATIONS)
        self._running: dict[str, asyncio.Task[bool]] = {}
        #: While this process works off shards.
        self._lane: ShardLane | None = None

    @property
    def _store(self) -> str:
        return store_identity(self._services.settings)

    @property
    def _directory(self) -> Path:
        directory = self._services.settings.data_dir / "scans"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    async def start(self, name: str, options: ScanOptions) -> ScanState:
        """Request a new run; or go on with the one that failed or waits, when the options are the same.

        It goes on with the inventory as it was read then; a failed one whose file was written anew does not.

        Raises:
            ConfigError: a run of that name is under way with other options.
            BrokerUnavailable: Redis does not answer.
        """
        try:
            old = await self.states.get(name)
            if old is not None and old.phase in ACTIVE:
                if old.options != options:
                    differing = ", ".join(_differing(old.options, options))
                    msg = (
                        f"scan {name} is under way with other options ({differing}): let it end, give the "
                        f"same ones, cancel it (ferryman scan cancel {name}), or take another name"
                    )
                    raise ConfigError(msg)
                return old  # its coordinator writes the record, nobody else
            if old is not None and old.options == options and old.phase == "failed":
                reason = not_to_be_continued(old, self._store) or await _rewritten(old)
                if not reason:
                    return await self._again(old)
                log.warning("scan_begins_anew", scan=name, reason=reason)
            run = f"{name}-{uuid.uuid4().hex[:12]}"
            state = ScanState(name=name, run=run, options=options, requested_at=time.time())
            await self.states.forget_run(name)
            await self.states.put(state)
            if old is not None:
                # Only now: a Redis that refuses the new record leaves the old one, and that has its account.
                outcomes = self._services.ledger.outcomes
                namespace = self._services.settings.broker.namespace
                await ShardStates(self._services.redis, namespace=namespace, run=old.run).forget()
                await outcomes.forget_scan(old.run)
                # What the queue still has of it belongs to no account any more.
                await outcomes.stop_scan(old.run, "cancel")
        except (RedisError, OSError) as error:
            msg = f"ledger: {error}"
            raise BrokerUnavailable(msg) from error
        return state

    async def _again(self, old: ScanState) -> ScanState:
        outcomes = self._services.ledger.outcomes
        failed = (await account(old, outcomes))[""].failed
        state = replace(old, phase="requested", paused=False, error="", finished_at=0.0, forgiven=failed)
        await outcomes.stop_scan(old.run, None)
        await self.states.put_held(state, "")
        return state

    async def order(self, name: str, order: Order) -> None:
        """Pause, resume or cancel a scan: workers hear it at once, the coordinator at its next step.

        Raises:
            ConfigError: there is no such scan, or it has ended (a failed one can be resumed, or cancelled).
            BrokerUnavailable: Redis does not answer.
        """
        try:
            state = await self.states.get(name)
            if state is None:
                msg = f"no scan {name!r}; `ferryman scan status` lists them"
                raise UnknownScan(msg)
            if state.phase in ACTIVE:
                stop = None if order == "resume" else order
                await self._services.ledger.outcomes.stop_scan(state.run, stop)
                await self.states.order(name, order)
            elif order == "resume" and state.phase == "failed":
                reason = not_to_be_continued(state, self._store)
                if reason:
                    msg = f"scan {name} cannot be resumed: {reason}; begin anew: ferryman scan start {name} …"
                    raise ConfigError(msg)
                await self._again(state)
            elif order == "cancel" and state.phase == "failed":
                # What the queue still has of it is dropped by workers; nobody coordinates it any more.
                await self._services.ledger.outcomes.stop_scan(state.run, "cancel")
                await self.states.put_held(replace(state, phase="cancelled", finished_at=time.time()), "")
            else:
                msg = f"scan {name} is {state.phase}: there is nothing to {order}"
                if order == "resume":
                    msg += f"; for a new run: ferryman scan start {name} …"
                raise ConfigError(msg)
        except (RedisError, OSError) as error:
            msg = f"ledger: {error}"
            raise BrokerUnavailable(msg) from error

    async def report(self, state: ScanState) -> dict[str, Any]:
        """Everything there is to say of a scan, for `scan status --json`, the API and the page."""
        namespace = self._services.settings.broker.namespace
        state, shards = await with_shards(self._services.redis, namespace, state)
        rows = await account(state, self._services.ledger.outcomes)
        total = rows.pop("")
        if total.pending and state.phase not in ACTIVE:
            newer = await self.states.get(state.name)
            if newer is not None and newer.run != state.run:
                return await self.report(newer)  # begun while this one was read: its account went with it
        progress = progress_of(state, total, keys_left=shards.keys_left)
        return {
            "name": state.name,
            "run": state.run,
            "bucket": state.options.bucket,
            "phase": state.phase,
            "paused": state.paused,
            "error": state.error,
            "begins_anew": bool(not_to_be_continued(state, self._store)),
            "waiting": state.waiting,
            "coordinator": await self.states.coordinator(state.name) if state.phase in ACTIVE else "",
            "dry_run": state.options.dry_run,
            "read": state.read,
            "duplicates": state.duplicates,
            "extra": state.extra,
            "pages": state.pages,
            "unread": state.unread,
            "outside": state.outside,
            "would_fetch": sum(counts.sent for counts in state.groups.values()),
            "started_at": state.started_at,
            "finished_at": state.finished_at,
            "progress": asdict(progress),
            "shards": asdict(shards),
            "total": _row(total),
            "prefixes": {group: _row(row) for group, row in rows.items()},
        }

    async def coordinate(self, name: str) -> bool:
        """Run a scan here, and shards of it, to its end; False when somebody else coordinated it."""
        state = await self.states.get(name)
        if state is None or state.phase not in ACTIVE:
            return False
        if state.options.shards == 1 or self._lane is not None:
            return await self._run_of(state).run()
        async with self._working():
            while state is not None and state.phase in ACTIVE:
                if await self._run_of(state).run():
                    return True
                await asyncio.sleep(TICK_S)
                state = await self.states.get(name)
            return False

    def _run_of(self, state: ScanState) -> HeldRun:
        kind = ReverseCoordinator if state.options.reverse else Coordinator
        return kind(self._services, self.states, state, directory=self._directory)

    async def serve(self, stop: asyncio.Event, *, only_shards: bool = False, threads: int = THREADS) -> None:
        """Run scans that have no coordinator, until `stop`; another process goes on with them.

        Shards are run for as long as some scan may have any: that is looked for every `LOOK_S`, and at once
        when one waits. `only_shards`: nothing else is run here.
        """
        here = f"{socket.gethostname()}:{os.getpid()}"
        redis, queue = self._services.redis, self._services.queue
        namespace = self._services.settings.broker.namespace
        called = False
        async with contextlib.AsyncExitStack() as sweeping, contextlib.AsyncExitStack() as lane:
            if not only_shards:
                sweep = asyncio.create_task(serve_leftovers(self._services, self.states, stop))
                sweeping.push_async_callback(end, sweep)
            while not stop.is_set():
                try:
                    if not only_shards:
                        await self.states.serve(here)
                    active = await self.states.live()
                    verified = await self.verifications.live()
                    if verified or any(state.options.shards != 1 for state in active):
                        if self._lane is None:
                            await lane.enter_async_context(self._working(threads))
                    elif self._lane is not None:
                        await lane.aclose()
                    if self._lane is None:
                        # Whoever is first leaves the others their part, before they have begun.
                        await say_working(redis, namespace, here, threads)
                    if not only_shards:
                        self._take_up([*active, *verified])
                except (RedisError, OSError) as error:
                    log.warning("scans_not_looked_for", error=str(error))
                if self._lane is None and not called:
                    called = await shard_waits(queue, stop, LOOK_S)
                else:
                    # Who was called for nothing is not called again at once: the message may be stale.
                    called = False
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), LOOK_S)
            await end(*self._running.values())

    def _take_up(self, active: Sequence[ScanState]) -> None:
        """Coordinate what nobody here does yet."""
        for name, task in tuple(self._running.items()):
            if task.done():
                del self._running[name]
                error = None if task.cancelled() else task.exception()
                if error is not None:  # its record says nothing of it: it could not be read or written
                    log.warning("scan_not_coordinated", scan=name, error=described(error))
        for state in active:
            if state.name not in self._running:
                work = self._verify(state) if state.verification is not None else self.coordinate(state.name)
                self._running[state.name] = asyncio.create_task(work)

    async def _verify(self, state: ScanState) -> bool:
        """Go on with a verification here; False where somebody else does, or this machine cannot."""
        if not await asyncio.to_thread(coordinated_here, state):
            return False
        return await CutVerification(self._services, self.verifications, state, clock=time.monotonic).run()

    @contextlib.asynccontextmanager
    async def _working(self, threads: int = THREADS) -> AsyncIterator[None]:
        """Work off shards here, of whichever scan."""
        self._lane = ShardLane(self._services, self._directory, runs=RUNS, threads=threads)
        try:
            async with self._lane.working():
                yield
        finally:
            self._lane = None


async def _rewritten(state: ScanState) -> str:
    """Why the inventory that a run has read is not the one that is meant now; empty when it may be."""
    read = state.inventory_version if state.inventory_complete else ""
    now = await asyncio.to_thread(version_of, state.options.inventory) if read else ""
    return "the file of its inventory was written anew since it was read" if now and now != read else ""


def _differing(old: ScanOptions, new: ScanOptions) -> list[str]:
    """`option OLD, now NEW` of all that are not the same; an inventory may hold secrets."""
    before, after = asdict(old), asdict(new)
    return [
        name if name == "inventory" else f"{name} {before[name]!r}, now {after[name]!r}"
        for name in before
        if before[name] != after[name]
    ]


def _row(row: Any) -> dict[str, int]:
    return {name: getattr(row, name) for name in type(row).__dataclass_fields__}
