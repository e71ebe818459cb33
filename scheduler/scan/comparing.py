"""A run that compares: its range of keys window by window, each counted, checkpointed, and sent.

Owns the order that makes the account exact: counts and batches are checkpointed together, then the batches
are opened in the ledger, then they are enqueued. A whole scan that runs as one and a shard of one that was
cut are this same run, over another range and with another record.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from scheduler.scan.compare.compare import Comparison, Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.compare.wanted import added, batches_of, planned, replacements
from scheduler.scan.held import LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.record.shard import WHOLE
from scheduler.scan.record.state import Checkpoint
from scheduler.scan.sending import SendingRun
from workers.ledger.names import Named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.compare.compare import Window
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.compare.wanted import Wanted
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.shard import KeyRange
    from scheduler.scan.record.state import ScanState, ScanStates

#: Listed failures of a bucket that are looked for in its listing; of more, none is.
_MOST_WATCHED = 200_000
log = structlog.get_logger(__name__)


class ComparingRun(SendingRun, ABC):
    """A run that compares a range of keys."""

    def __init__(
        self, services: Services, states: ScanStates, state: ScanState, *, directory: Path, **more: Any
    ) -> None:
        super().__init__(services, states, state, **more)
        self._directory = directory
        self._selection = Selection(state.options, now=state.requested_at)
        #: Unix time before which the listing behind the next window was asked for.
        self._listed_at = time.time()

    @property
    def _range(self) -> KeyRange:
        """The keys that this run compares."""
        return self.state.shard.range if self.state.shard is not None else WHOLE

    @abstractmethod
    def _entries(self, after: str | None) -> Iterator[Block[Entry]]:
        """The inventory of the range, sorted; with `after`, what comes behind that key."""

    @abstractmethod
    async def _reserved(self, batches: int) -> int:
        """The first of so many numbers that no other batch of the run has; none is there for 0."""

    async def _begin_anew(self, state: ScanState) -> None:
        """The listing is another one than it was judged to be; what was counted by it need not stay."""
        await self._put(state)

    async def _seen(self, window: Window) -> None:
        """What else a window showed, before it is counted."""

    async def _shortened(self) -> bool:
        """Whether the range ends earlier now, at a key behind the checkpoint."""
        return False

    async def _compare(self) -> None:
        """Compare the range from its checkpoint to its end, whatever it is cut short to meanwhile."""
        while self.state.checkpoint is None or not self.state.checkpoint.compared:
            try:
                await self._compare_in_one_go()
            except OutOfOrder as error:
                if error.side != "listing" or self.state.listing_sorted:
                    raise
                log.warning("listing_sorted_here", scan=self.state.name, reason=str(error))
                await self._begin_anew(replace(self.state, listing_sorted=True))

    async def _compare_in_one_go(self) -> None:
        state, options, point = self.state, self.state.options, self.state.checkpoint
        after = point.key if point and point.key else None
        collation = Collation(state.collation)
        feed, listing = await listing_in(
            collation,
            self._services.store,
            options.bucket,
            options.prefix,
            file=self._directory / f"{state.name.replace('/', '.') if state.shard else state.run}.listing",
            sort=state.listing_sorted,
            after=after,
            continuation=point.continuation if point else None,
            of=self._range,
        )
        comparison = Comparison(
            self._entries(after),
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
            if not ended and await self._shortened():
                return
            # A page is read ahead, so what the next window says of the store may be as old as this one.
            self._listed_at = began

    async def _take(self, window: Window, continuation: str | None) -> bool:
        """Count a window and send what is missing; True when that was the last."""
        state, options = self.state, self.state.options
        await self._seen(window)
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
        batches = (
            []
            if options.dry_run
            else list(batches_of(wanted, run=state.run, first=0, missing_at=self._listed_at))
        )
        first = await self._reserved(len(batches))
        batches = [replace(batch, batch=first + batch.batch) for batch in batches]
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
        names = [Named("differs", entry.key, how) for _, entry, _, how in differs]
        names += [Named("excluded", key) for key in window.excluded]
        if not await self._states.checkpoint(self.state, batches, self._token, names):
            raise LeaseLost(state.name)
        await self._send(batches)
        return ended
