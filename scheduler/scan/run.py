"""The coordinator of one scan: inventory, comparison, batches to the cold queue, and the wait for their end.

Owns the order that makes the account exact: counts and batches are checkpointed together, then the batches
are opened in the ledger, then they are enqueued. Whatever dies in between, the next coordinator repeats the
last window under the same numbers and goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.dispatch import BATCH_ITEMS, key_problem
from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from scheduler.scan.compare import Comparison, Groups
from scheduler.scan.inventory import open_source
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory.sorting import read_sorted, sort_to_file
from scheduler.scan.listing import BlockingListing
from scheduler.scan.state import LEASE_MS, Checkpoint, Counts, account
from workers.background import end
from workers.errors import BrokerUnavailable, FerrymanError, QueueFull
from workers.failures import Failure
from workers.plan import Batch, FetchItem, FetchPlan, Lane
from workers.store.metadata import is_mirrored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services
    from scheduler.scan.compare import Window
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.state import Phase, ScanState, ScanStates

#: Seconds between looks at orders, the lease and the queue.
TICK_S = 0.5
#: Messages of the cold lane that scans keep waiting: enough to feed workers, few enough to stop at once.
COLD_DEPTH = 40

log = structlog.get_logger(__name__)


class ScanCancelled(FerrymanError):
    """An operator cancelled the scan."""


class LeaseLost(FerrymanError):
    """Another coordinator has taken over; this one must not write any more."""


class Coordinator:
    """Runs one scan to its end, from the beginning or from its checkpoint."""

    def __init__(self, services: Services, states: ScanStates, state: ScanState, *, directory: Path) -> None:
        self._services = services
        self._states = states
        self.state = state
        self._token = uuid.uuid4().hex
        self._directory = directory
        self._groups = Groups(state.groups)

    async def run(self) -> bool:
        """Run until done, failed or cancelled; False when another coordinator holds the lease."""
        name = self.state.name
        if not await self._states.acquire(name, self._token):
            return False
        keeper = asyncio.create_task(self._keep_lease())
        try:
            await self._phases()
        except ScanCancelled:
            await self._services.ledger.outcomes.stop_scan(self.state.run, "cancel")
            await self._finish("cancelled")
        except LeaseLost as error:
            log.warning("scan_lease_lost", scan=name, error=str(error))
        except (FerrymanError, OSError) as error:
            # A failed listing or source is an error, never an end; the checkpoint stays (P31).
            log.error("scan_failed", scan=name, error=str(error))  # noqa: TRY400  # the message says it all
            await self._finish("failed", error=str(error))
        except RedisError as error:
            # The record cannot be written either: the next coordinator goes on from the checkpoint.
            log.warning("scan_interrupted", scan=name, error=str(error))
        except Exception as error:
            log.exception("scan_failed_unexpectedly", scan=name)
            await self._finish("failed", error=f"internal error: {type(error).__name__}: {error}")
        finally:
            await end(keeper)
            with contextlib.suppress(RedisError, OSError):  # the lease runs out by itself
                await self._states.release(name, self._token)
        return True

    async def _finish(self, phase: Phase, *, error: str = "") -> None:
        await self._put(replace(self.state, phase=phase, error=error, finished_at=time.time()))

    async def _put(self, state: ScanState) -> None:
        self.state = replace(state, updated_at=time.time())
        await self._states.put(self.state)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 4000)
            try:
                await self._states.renew(self.state.name, self._token)
            except (RedisError, OSError) as error:
                log.warning("scan_lease_not_renewed", scan=self.state.name, error=str(error))

    async def _obey(self) -> None:
        """Carry out what an operator asked for; a pause lasts until `resume` or `cancel`."""
        while True:
            order = await self._states.take_order(self.state.name)
            if order == "cancel":
                raise ScanCancelled(self.state.name)
            if order is not None:
                paused = order == "pause"
                await self._services.ledger.outcomes.stop_scan(self.state.run, "pause" if paused else None)
                await self._put(replace(self.state, paused=paused))
            if not await self._states.renew(self.state.name, self._token):
                raise LeaseLost(self.state.name)
            if not self.state.paused:
                return
            await asyncio.sleep(TICK_S)

    async def _phases(self) -> None:
        state = self.state
        if not state.started_at:
            await self._put(replace(state, started_at=time.time()))
        guarantees = await self._services.store.guarantees(state.options.bucket)
        collation = Collation(guarantees.collation)
        await self._send(await self._states.window(state.name))
        if not self.state.inventory_complete:
            await self._put(replace(self.state, phase="inventory"))
            await self._read_inventory(collation)
        if self.state.phase != "move":
            await self._put(replace(self.state, phase="compare"))
            await self._compare(collation)
            await self._put(replace(self.state, phase="move"))
        await self._await_moved()
        await self._finish("done")

    async def _read_inventory(self, collation: Collation) -> None:
        path = await sort_to_file(self._counted(), collation, directory=self._directory)
        await self._put(replace(self.state, inventory_complete=True, inventory_file=str(path)))

    async def _counted(self) -> AsyncIterator[Entry]:
        """Entries that can be asked for; the others are failures with a reason, not silence."""
        options = self.state.options
        read = 0
        refused: dict[str, int] = {}
        failures: list[Failure] = []
        looked_at = time.monotonic()
        async for entry in open_source(options.inventory, services=self._services):
            if options.prefix and not entry.key.startswith(options.prefix):
                continue
            read += 1
            problem = key_problem(entry.key)
            if problem is None:
                yield entry
            else:
                group = self._groups.of(entry.key)
                refused[group] = refused.get(group, 0) + 1
                failures.append(self._failure(entry.key, problem, "the key cannot be asked for"))
            if read % 1000 == 0 and time.monotonic() - looked_at > TICK_S:
                looked_at = time.monotonic()
                await self._obey()
                await self._put(replace(self.state, read=read))
        await self._services.ledger.failures.add(failures)
        groups = {group: replace(Counts(), found=number, refused=number) for group, number in refused.items()}
        await self._put(replace(self.state, read=read, groups=groups))

    def _failure(self, key: str, reason: str, message: str, rule: str = "") -> Failure:
        return Failure(
            bucket=self.state.options.bucket,
            key=key,
            reason=reason,
            message=message,
            rule=rule,
            lane=Lane.COLD.value,
            scan=self.state.run,
        )

    async def _compare(self, collation: Collation) -> None:
        options, point = self.state.options, self.state.checkpoint
        after = point.key if point and point.key else None
        feed = BlockingListing(
            self._services.store,
            options.bucket,
            options.prefix,
            continuation=point.continuation if point else None,
        )
        comparison = Comparison(
            read_sorted(Path(self.state.inventory_file), after=after, order=collation),
            feed.objects(after=after, collation=collation),
            options=options,
            collation=collation,
            groups=self._groups,
        )
        while True:
            await self._obey()
            window = await asyncio.to_thread(comparison.next_window)
            stop = await self._take(window, feed.continuation)
            if window.ended or stop:
                return

    async def _take(self, window: Window, continuation: str | None) -> bool:
        """Count a window and send what is missing; True when a limit ends the scan here."""
        state, options = self.state, self.state.options
        sent = sum(counts.sent for counts in state.groups.values())
        missing = window.missing
        stop = False
        if options.limit is not None and sent + len(missing) >= options.limit:
            cut = missing[options.limit - sent :]
            missing = missing[: options.limit - sent]
            for group, _ in cut:
                window.counts[group, "found"] -= 1
            stop = True
        wanted, failures = self._planned(missing)
        if options.replace and not options.dry_run:
            wanted += await self._replacements(window)
        else:
            for group, *_ in window.differs:
                window.counts[group, "differs"] += 1
        first = state.checkpoint.batch if state.checkpoint else 0
        batches = [] if options.dry_run else list(_batches(wanted, run=state.run, first=first))
        groups = self._groups_with(window, wanted, failures)
        key = window.last_key or (state.checkpoint.key if state.checkpoint else "")
        self.state = replace(
            state,
            updated_at=time.time(),
            groups=groups,
            extra=state.extra + window.extra,
            duplicates=state.duplicates + window.duplicates,
            checkpoint=Checkpoint(key=key, continuation=continuation, batch=first + len(batches)),
        )
        await self._services.ledger.failures.add([failure for _, failure in failures])
        await self._states.checkpoint(self.state, batches)
        await self._send(batches)
        return stop

    def _planned(
        self, missing: list[tuple[str, Entry]]
    ) -> tuple[list[tuple[str, FetchPlan, FetchItem]], list[tuple[str, Failure]]]:
        bucket = self.state.options.bucket
        ruleset = self._services.rules.snapshot(bucket)
        wanted: list[tuple[str, FetchPlan, FetchItem]] = []
        failures: list[tuple[str, Failure]] = []
        for group, entry in missing:
            facts = RequestFacts(key=entry.key)
            rule = match(ruleset, facts) if ruleset is not None else None
            if ruleset is None or rule is None or rule.type is RuleType.REDIRECT or not rule.store.save:
                message = "missing in the bucket, and no rule pulls it"
                failures.append((group, self._failure(entry.key, "no_rule", message)))
                continue
            try:
                fetch_plan, item = plan(rule, ruleset, bucket, facts, kind="scan")
            except PlanRefused as error:
                failures.append((group, self._failure(entry.key, error.reason, str(error), rule.name)))
                continue
            wanted.append((group, fetch_plan, replace(item, size=entry.size, digest=entry.digest)))
        return wanted, failures

    async def _replacements(self, window: Window) -> list[tuple[str, FetchPlan, FetchItem]]:
        """Differing objects that are ours and unchanged since: they may be replaced (S12)."""
        wanted: list[tuple[str, FetchPlan, FetchItem]] = []
        for group, entry, there, _ in window.differs:
            info = await self._services.store.head(self.state.options.bucket, entry.key)
            planned, _ = self._planned([(group, entry)])
            if info is None or not planned or not is_mirrored(info) or info.etag != there.etag:
                window.counts[group, "differs"] += 1
                continue
            _, fetch_plan, item = planned[0]
            wanted.append((group, fetch_plan, replace(item, replace_etag=info.etag)))
        return wanted

    def _groups_with(
        self,
        window: Window,
        wanted: list[tuple[str, FetchPlan, FetchItem]],
        failures: list[tuple[str, Failure]],
    ) -> dict[str, Counts]:
        groups = dict(self.state.groups)

        def add(group: str, what: str, number: int) -> None:
            row = groups.get(group, Counts())
            groups[group] = replace(row, **{what: getattr(row, what) + number})

        for (group, what), number in window.counts.items():
            add(group, what, number)
        for group, _ in failures:
            add(group, "refused", 1)
        for group, _, item in wanted:
            add(group, "sent", 1)
            add(group, "sent_bytes", item.size or 0)
        return groups

    async def _send(self, batches: list[Batch]) -> None:
        """Open and enqueue batches while the cold lane has room. Doing it twice is harmless."""
        options = self.state.options
        outcomes = self._services.ledger.outcomes
        for batch in batches:
            group = self._groups.of(batch.items[0].key)
            size = len(batch.items)
            if not await outcomes.open_batch(self.state.run, batch.batch, size=size, group=group):
                continue  # done before this coordinator began
            await self._room()
            await self._services.queue.enqueue_many([batch])
            if options.rate:
                await asyncio.sleep(size / options.rate)

    async def _room(self) -> None:
        """Wait until the cold lane has room; a queue that is away is waited for, too."""
        while True:
            await self._obey()
            try:
                depth = await self._services.queue.depth(Lane.COLD)
            except (BrokerUnavailable, QueueFull) as error:
                log.warning("scan_waits_for_queue", scan=self.state.name, error=str(error))
            else:
                if depth.waiting < COLD_DEPTH:
                    return
            await asyncio.sleep(0.05)

    async def _await_moved(self) -> None:
        """Wait until no key is pending; failures do not hold it up, they are listed."""
        limit = self.state.options.stop_after_failures
        while True:
            await self._obey()
            rows = await account(self.state, self._services.ledger.outcomes)
            if limit is not None and rows[""].failed >= limit:
                msg = f"{rows[''].failed} keys failed, the limit is {limit}"
                raise FerrymanError(msg)
            if self.state.options.dry_run or rows[""].pending == 0:
                return
            await self._put(self.state)
            await asyncio.sleep(TICK_S)


def _batches(wanted: list[tuple[str, FetchPlan, FetchItem]], *, run: str, first: int) -> Iterator[Batch]:
    """Cut into batches of one group and one plan, at most 100 items each, numbered from `first`."""
    items: list[FetchItem] = []
    held: tuple[str, FetchPlan] | None = None
    number = first
    for group, fetch_plan, item in wanted:
        if held is not None and (held[0] != group or held[1] is not fetch_plan or len(items) >= BATCH_ITEMS):
            yield Batch(plan=held[1], items=tuple(items), lane=Lane.COLD, scan=run, batch=number)
            number += 1
            items = []
        held = (group, fetch_plan)
        items.append(replace(item, position=len(items)))
    if held is not None and items:
        yield Batch(plan=held[1], items=tuple(items), lane=Lane.COLD, scan=run, batch=number)
