"""The coordinator of one scan: inventory, comparison, batches to the cold queue, and the wait for their end.

Owns the order that makes the account exact: counts and batches are checkpointed together, then the batches
are opened in the ledger, then they are enqueued. Whatever dies in between, the next coordinator repeats what
the queue may lack of the last window, under the same numbers, and goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.compare import Comparison, Groups, Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.compare.reading import Reading, forget_inventories, inventory_of, inventory_path
from scheduler.scan.compare.sorted_file import NotThisFile, read_blocks, read_header, sorted_as
from scheduler.scan.compare.sorting import in_order
from scheduler.scan.compare.wanted import added, batches_of, planned, refusal, replacements
from scheduler.scan.held import ACCOUNT_SHARE, TICK_S, HeldRun, LeaseLost, ScanCancelled
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory.opening import open_source
from scheduler.scan.inventory.walk import Walk
from scheduler.scan.limits import NearlyAllAbsent, StoppedByLimit
from scheduler.scan.state import Checkpoint, not_to_be_continued
from scheduler.scan.ticking import ticking
from scheduler.scan.unread import forget_read, list_unread
from workers.background import end
from workers.errors import BrokerUnavailable, FerrymanError, QueueFull, described
from workers.plan import Batch, Lane
from workers.windows import parse_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.runtime import Services
    from scheduler.scan.compare.compare import Window
    from scheduler.scan.compare.wanted import Wanted
    from scheduler.scan.state import ScanState, ScanStates
    from workers.store.guarantees import StoreGuarantees

#: Messages of the cold lane that scans keep waiting: enough to feed workers, few enough to stop at once.
COLD_DEPTH = 40
#: Listed failures of a bucket that are looked for in its listing; of more, none is.
_MOST_WATCHED = 200_000
log = structlog.get_logger(__name__)


class NotToBeContinued(FerrymanError):
    """What the run has counted was counted of something else."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{reason}; begin anew: ferryman scan start {name} … --wait")


class Coordinator(HeldRun):
    """Runs one scan to its end, from the beginning or from its checkpoint."""

    def __init__(
        self,
        services: Services,
        states: ScanStates,
        state: ScanState,
        *,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], dt.datetime] = lambda: dt.datetime.now().astimezone(),
    ) -> None:
        super().__init__(services, states, state, clock=clock)
        self._directory = directory
        self._groups = Groups(state.groups)
        self._selection = Selection(state.options, now=state.requested_at)
        self._windows = [parse_window(text) for text in state.options.windows]
        self._local_time = local_time
        #: Unix time before which the listing behind the next window was asked for.
        self._listed_at = time.time()

    async def run(self) -> bool:
        """Run until done, failed or cancelled; False when another coordinator holds the lease."""
        name = self.state.name
        if not await self._states.acquire(name, self._token):
            return False
        keeper = asyncio.create_task(self._keep_lease())
        try:
            await self._to_its_end()
        except (RedisError, BrokerUnavailable) as error:
            # The record cannot be written either: the next coordinator goes on from the checkpoint.
            log.warning("scan_interrupted", scan=name, error=str(error))
        except LeaseLost as error:
            log.warning("scan_lease_lost", scan=name, error=str(error))
        finally:
            await end(keeper)
            with contextlib.suppress(RedisError, OSError):  # the lease runs out by itself
                await self._states.release(name, self._token)
        return True

    async def _to_its_end(self) -> None:
        name = self.state.name
        try:
            # What was known when this coordinator was made may be older than the lease.
            self.state = await self._states.get(name) or self.state
            self._groups = Groups(self.state.groups)
            await self._phases()
        except ScanCancelled:
            await self._services.ledger.outcomes.stop_scan(self.state.run, "cancel")
            await self._finish("cancelled")
            await self._states.obeyed(name, "cancel")
        except (RedisError, BrokerUnavailable, LeaseLost):
            raise
        except StoppedByLimit as error:
            log.error("scan_failed", scan=name, error=str(error))  # noqa: TRY400  # the message says it all
            await self._services.ledger.outcomes.stop_scan(self.state.run, "pause")
            if isinstance(error, NearlyAllAbsent):
                # Whatever is mended: this run asks for none of these keys again.
                self.state = replace(self.state, spoilt="nearly all of its keys were absent")
            await self._finish("failed", error=str(error))
        except (FerrymanError, OSError) as error:
            # A failed listing or source is an error, never an end; the checkpoint stays (P31).
            log.error("scan_failed", scan=name, error=str(error))  # noqa: TRY400  # the message says it all
            await self._finish("failed", error=str(error))
        except Exception as error:
            log.exception("scan_failed_unexpectedly", scan=name)
            await self._finish("failed", error=f"internal error: {described(error)}")

    # ------------------------------------------------------------------ phases

    async def _phases(self) -> None:
        state = self.state
        if not state.started_at:
            await self._put(replace(state, started_at=time.time()))
        await self._services.ledger.outcomes.stop_scan(state.run, "pause" if state.paused else None)
        # A process that began while Redis was away knows no rule yet: every key would seem to match none.
        await self._services.rules.refresh()
        await self._begin(await self._services.store.guarantees(state.options.bucket))
        await self._send(await self._states.window(state.name))
        point = self.state.checkpoint
        if point is None or not point.compared:
            await self._inventory_and_listing()
        if self.state.phase != "move":
            await self._put(replace(self.state, phase="move"))
        await self._await_moved()
        await self._finish("done")

    async def _begin(self, guarantees: StoreGuarantees) -> None:
        """Settle what the whole run depends on, or refuse to go on with it.

        Raises:
            NotToBeContinued: the record was made with another store, or by another version.
        """
        state = self.state
        store = store_identity(self._services.settings)
        reason = not_to_be_continued(state, store)
        if reason:
            raise NotToBeContinued(state.name, reason)
        judged = Collation(guarantees.collation)
        # The order is the run's from its beginning on: its file and its checkpoint are in it.
        collation = state.collation or sorted_as(judged).value
        await self._put(
            replace(
                state,
                store=store,
                collation=collation,
                listing_sorted=state.listing_sorted or judged.value != collation,
            )
        )

    async def _inventory_and_listing(self) -> None:
        """Have the sorted inventory, and compare it with the listing; a damaged file is read anew once."""
        for again in (False, True):
            if not await asyncio.to_thread(self._has_inventory):
                await self._put(replace(self.state, phase="inventory"))
                await self._read_inventory()
            await self._put(replace(self.state, phase="compare"))
            try:
                await self._compare()
            except (NotThisFile, OutOfOrder) as error:
                if again or (isinstance(error, OutOfOrder) and error.side != "inventory"):
                    raise
                log.warning("inventory_read_again", scan=self.state.name, error=str(error))
                Path(self.state.inventory_file).unlink(missing_ok=True)  # one file
            else:
                return

    def _has_inventory(self) -> bool:
        """Whether this run's sorted inventory is here; it is in the run's order afterwards. Blocking."""
        state = self.state
        path = Path(state.inventory_file)
        if not (state.inventory_complete and path.is_file()):
            return False
        try:
            if read_header(path).of != inventory_of(state):
                return False
            in_order(path, Collation(state.collation))
        except NotThisFile as error:
            log.warning("inventory_read_again", scan=state.name, error=str(error))
            return False
        return True

    async def _read_inventory(self) -> None:
        """Read the source into a sorted file.

        When its file is gone (another machine went on with the scan), what was counted of it stays counted,
        and the source must still say the same.
        """
        options = self.state.options
        again = self.state.inventory_complete and self.state.checkpoint is not None
        if not again:
            await self._put(replace(self.state, inventory_complete=False, groups={}, read=0, duplicates=0))
            self._groups = Groups()
        await asyncio.to_thread(forget_inventories, self._directory, self.state.name, but=self.state.run)
        reading = Reading(
            inventory_path(self._directory, self.state.run),
            Collation(self.state.collation),
            of=inventory_of(self.state),
            prefix=options.prefix,
            selection=self._selection,
            groups=self._groups,
        )
        walk = Walk(prefix=options.prefix, exclude=options.exclude)

        async def tick() -> None:
            await self._obey()
            seen = replace(self.state, pages=walk.pages, outside=walk.outside)
            await self._put(seen if again else replace(seen, read=reading.read, unread=walk.missed))

        source = ticking(
            open_source(options.inventory, services=self._services, walk=walk), tick, every_s=TICK_S
        )
        try:
            async with contextlib.aclosing(source) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(reading.take, block)
                    await self._list_refused(reading)
                    await list_unread(self._services.ledger, self.state, walk)
            await list_unread(self._services.ledger, self.state, walk)
            found = await asyncio.to_thread(reading.finish)
        except BaseException:
            reading.abort()
            raise
        state = replace(self.state, inventory_complete=True, inventory_file=str(found.path))
        # What an earlier pass could not read stays unread: its keys may stand before the checkpoint.
        state = replace(
            state,
            pages=walk.pages,
            outside=walk.outside,
            unread=max(walk.missed, state.unread if again else 0),
        )
        if not again:
            await forget_read(self._services.ledger, self.state)
            groups = added({}, reading.counts)
            state = replace(
                state,
                read=reading.read,
                duplicates=reading.duplicates,
                inventory_keys=found.keys,
                inventory_digest=found.digest,
                inventory_groups=groups,
                groups=groups,
            )
        elif state.inventory_digest not in {"", found.digest}:
            reason = "its inventory had to be read again and is not what it was when it was counted"
            self.state = replace(self.state, spoilt=reason)
            raise NotToBeContinued(state.name, reason)
        await self._put(state)

    async def _list_refused(self, reading: Reading) -> None:
        if reading.refused:
            message = "the key cannot be asked for"
            failures = [refusal(self.state, key, problem, message) for key, problem in reading.refused]
            reading.refused.clear()
            await self._services.ledger.failures.add(failures)

    async def _compare(self) -> None:
        try:
            await self._compare_in_one_go()
        except OutOfOrder as error:
            if error.side != "listing" or self.state.listing_sorted:
                raise
            log.warning("listing_sorted_here", scan=self.state.name, reason=str(error))
            state = replace(self.state, listing_sorted=True)
            if state.checkpoint is not None and state.checkpoint.batch == 0:
                # Nothing was sent: what such a listing made of the counts need not stay.
                state = replace(state, checkpoint=None, groups=state.inventory_groups, extra=0)
            await self._put(state)
            await self._compare_in_one_go()

    async def _compare_in_one_go(self) -> None:
        state, options, point = self.state, self.state.options, self.state.checkpoint
        after = point.key if point and point.key else None
        collation = Collation(state.collation)
        feed, listing = await listing_in(
            collation,
            self._services.store,
            options.bucket,
            options.prefix,
            file=self._directory / f"{state.run}.listing",
            sort=state.listing_sorted,
            after=after,
            continuation=point.continuation if point else None,
        )
        comparison = Comparison(
            read_blocks(
                Path(state.inventory_file),
                collation,
                after=after,
                of=inventory_of(state),
                keys=state.inventory_keys,
            ),
            listing,
            options=options,
            selection=self._selection,
            groups=self._groups,
            watched=await self._services.ledger.failures.keys(options.bucket, most=_MOST_WATCHED),
            collation=collation,
        )
        ended = False
        while not ended:
            await self._obey()
            began = time.time()
            window = await asyncio.to_thread(comparison.next_window)
            ended = await self._take(window, feed.continuation)
            # A page is read ahead, so what the next window says of the store may be as old as this one.
            self._listed_at = began

    async def _take(self, window: Window, continuation: str | None) -> bool:
        """Count a window and send what is missing; True when that was the last."""
        state, options = self.state, self.state.options
        differs = window.differs
        services = self._services
        ruleset = services.rules.snapshot(options.bucket)
        replaceable: list[Wanted] = []
        if options.replace:
            replaceable, differs = await replacements(services.store, ruleset, state, window.differs)
        for group, *_ in differs:
            window.counts[group, "differs"] += 1
        wanted, failures = planned(ruleset, state, window.missing)
        wanted += replaceable
        ended = window.ended
        if options.limit is not None:
            room = max(0, options.limit - sum(counts.sent for counts in state.groups.values()))
            for group, *_ in wanted[room:]:
                window.counts[group, "found"] -= 1
            wanted = wanted[:room]
            ended = ended or len(wanted) == room
        first = state.checkpoint.batch if state.checkpoint else 0
        batches = (
            []
            if options.dry_run
            else list(batches_of(wanted, run=state.run, first=first, missing_at=self._listed_at))
        )
        counts = window.counts
        for group, _ in failures:
            counts[group, "refused"] += 1
        for group, _, item in wanted:
            counts[group, "sent"] += 1
            counts[group, "sent_bytes"] += item.size or 0
        key = window.last_key or (state.checkpoint.key if state.checkpoint else "")
        self.state = self._stamped(
            replace(
                state,
                phase="move" if ended else state.phase,
                groups=added(state.groups, counts),
                extra=state.extra + window.extra,
                checkpoint=Checkpoint(
                    key=key, continuation=continuation, batch=first + len(batches), compared=ended
                ),
            )
        )
        await self._services.ledger.failures.add([failure for _, failure in failures])
        different = {entry.key for _, entry, *_ in window.differs}
        there = [key for key in window.watched if key not in different]
        await self._services.ledger.failures.settle(options.bucket, there, before=self._listed_at)
        if not await self._states.checkpoint(self.state, batches, self._token):
            raise LeaseLost(state.name)
        await self._send(batches)
        return ended

    # ------------------------------------------------------------------ sending

    async def _send(self, batches: list[Batch]) -> None:
        """Open and enqueue batches while the cold lane has room. Doing it twice is harmless."""
        if not batches:
            return
        options, outcomes = self.state.options, self._services.ledger.outcomes
        begin = await self._states.sent(self.state.name)
        for batch in batches:
            if batch.batch < begin:
                continue  # the queue had it before this coordinator began
            group = self._groups.of(batch.items[0].key)
            size = len(batch.items)
            if not await outcomes.open_batch(self.state.run, batch.batch, size=size, group=group):
                continue  # done before this coordinator began
            await self._room()
            await self._services.queue.enqueue_many([batch])
            await self._states.mark_sent(self.state.name, batch.batch)
            if options.rate:
                await asyncio.sleep(size / options.rate)

    async def _room(self) -> None:
        """Wait for the hours of sending and until the cold lane has room; a queue that is away, too."""
        while True:
            await self._obey()
            if self._windows and not any(one.contains(self._local_time()) for one in self._windows):
                await self._wait_for(f"the window {' or '.join(self.state.options.windows)}")
                await asyncio.sleep(TICK_S)
                continue
            try:
                depth = await self._services.queue.depth(Lane.COLD)
            except (BrokerUnavailable, QueueFull) as error:
                log.warning("scan_waits_for_queue", scan=self.state.name, error=str(error))
                await asyncio.sleep(TICK_S)
                continue
            if depth.waiting < COLD_DEPTH:
                await self._wait_for("")
                return
            await asyncio.sleep(0.05)

    async def _wait_for(self, what: str) -> None:
        if self.state.waiting != what:
            await self._put(self.state)
            await self._put(replace(self.state, waiting=what))

    async def _await_moved(self) -> None:
        """Wait until no key is pending; failures do not hold it up, they are listed."""
        while True:
            await self._obey()
            pending = await self._account(ended=True)
            if self.state.options.dry_run or pending == 0:
                return
            await self._put(self.state)
            await asyncio.sleep(max(TICK_S, self._account_s * ACCOUNT_SHARE))
