"""The coordinator of a scan the other way round: the store is the inventory, the origin the destination.

Owns the reading of what the origin has. Cut into ranges, shards compare it with the store; in one range both
listings are sorted outside memory here, and a run that is broken off begins anew: noting a key twice is
harmless.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.listing import sort_listing, sorted_blocks
from scheduler.scan.compare.merge import merge
from scheduler.scan.compare.ranges import index_path
from scheduler.scan.compare.reading import forget_inventories, inventory_of, inventory_path
from scheduler.scan.compare.sorted_file import read_blocks
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.compare.wanted import added
from scheduler.scan.held import TICK_S, LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory_run import NotToBeContinued
from scheduler.scan.record.state import not_to_be_continued
from scheduler.scan.reverse.bringing import Bringing, batches_of
from scheduler.scan.reverse.judging import Judge
from scheduler.scan.reverse.origin_listing import OriginListing
from scheduler.scan.reverse.shard import STEP, of_mine, passed_over, take
from scheduler.scan.reverse.sides import Sides
from scheduler.scan.run import Coordinator
from scheduler.scan.shards.source import RangedBucket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.scan.record.state import Phase
    from scheduler.scan.reverse.judging import Both
    from scheduler.scan.shards.probing import Cuts
    from workers.store.guarantees import StoreGuarantees

#: Batches whose end is waited for at once.
_OUTSTANDING: Final = 50


class ReverseCoordinator(Coordinator):
    """Runs one reverse scan to its end."""

    async def _phases(self) -> None:
        state, services = self.state, self._services
        await services.ledger.outcomes.stop_scan(state.run, "pause" if state.paused else None)
        await services.rules.refresh()
        options = state.options
        self._sides = Sides.of(services.rules.snapshot(options.bucket), options.bucket, options.prefix)
        self._theirs = OriginListing(services.origin_writer.wire, self._sides)
        if state.shards:
            reason = not_to_be_continued(state, store_identity(services.settings))
            if reason:
                raise NotToBeContinued(state.name, reason)
        else:
            await self._begin_from_nothing()
        if await self._is_cut():
            if self.state.checkpoint is None:
                await self._in_shards()
            await self._put(replace(self.state, phase="move"))
            await self._await_moved()
        else:
            await self._as_one()
        await self._finish("done")

    async def _begin_from_nothing(self) -> None:
        state = self.state
        await self._services.ledger.outcomes.forget_scan(state.run)
        self._groups = Groups()
        await self._put(
            replace(
                state,
                phase="inventory",
                started_at=state.started_at or time.time(),
                store=store_identity(self._services.settings),
                collation=Collation.BYTES.value,
                inventory_complete=False,
                groups={},
                read=0,
                extra=0,
                pages=0,
                checkpoint=None,
            ),
            names_void=True,
        )

    async def _heed_lost(self, pending: int) -> None:
        """What it waits for is on record and in no message."""

    async def _finish(self, phase: Phase, *, error: str = "") -> None:
        await super()._finish(phase, error=error)
        if phase != "failed":  # which can be gone on with
            await asyncio.to_thread(self._forget_files)

    def _forget_files(self) -> None:
        path = inventory_path(self._directory, self.state.run)
        for one in (path, index_path(path), path.with_suffix(".listing")):
            one.unlink(missing_ok=True)

    # ------------------------------------------------------------------ what the origin has

    async def _read_inventory(self) -> None:
        """Read what the origin has into a sorted file."""
        state = self.state
        await asyncio.to_thread(forget_inventories, self._directory, state.name, but=state.run)
        path = inventory_path(self._directory, state.run)
        sorter = await asyncio.to_thread(Sorter, path, Collation.BYTES, of=inventory_of(state))
        try:
            async for entries in self._theirs.pages():
                await self._obey()
                await asyncio.to_thread(sorter.add, entries)
                await self._put(replace(self.state, pages=self.state.pages + 1))
            found = await asyncio.to_thread(sorter.finish)
        except BaseException:
            sorter.abort()
            raise
        await self._put(
            replace(
                self.state,
                inventory_complete=True,
                inventory_file=str(found.path),
                inventory_keys=found.keys,
                inventory_digest=found.digest,
            )
        )

    def _source_in_ranges(self, guarantees: StoreGuarantees) -> bool:
        del guarantees  # the store's, which is the other side here
        return self._theirs.in_ranges

    async def _places(self) -> Cuts:
        """By the side that has more keys."""
        options = self.state.options
        store = RangedBucket(self._services.store, options.bucket, options.prefix, wanted=True)
        ours = await self._searched(store.probe)
        listed = self.state.source_listed
        theirs = await (self._searched(self._theirs.probe) if listed else self._quantiles())
        return max(ours, theirs, key=lambda found: found.keys)

    # ------------------------------------------------------------------ in one range

    async def _as_one(self) -> None:
        state, options = self.state, self.state.options
        if not await asyncio.to_thread(self._has_inventory):
            await self._read_inventory()
        path = inventory_path(self._directory, state.run).with_suffix(".listing")
        ours = await sort_listing(self._services.store, options.bucket, options.prefix, path)
        await self._put(replace(self.state, phase="compare"))
        both = merge(
            read_blocks(Path(self.state.inventory_file), Collation.BYTES),
            of_mine(sorted_blocks(ours), self._sides),
            on_duplicate=passed_over,
        )
        judge = Judge(self._services, options, self._selection, self._groups)
        bringing = Bringing(self._services, options.bucket, state.run)
        number = 0
        while step := await asyncio.to_thread(take, both, STEP):
            await self._obey()
            number = await self._judge(judge, bringing, step, number)
            await self._settle(bringing, _OUTSTANDING)
        await self._put(replace(self.state, phase="move"))
        await self._settle(bringing, 0)

    async def _judge(self, judge: Judge, bringing: Bringing, step: Sequence[Both], number: int) -> int:
        """Count a step, and ask for what is to be brought; the number of the next batch."""
        judged = await judge.judged(step)
        self.state = self._stamped(
            replace(
                self.state,
                groups=added(self.state.groups, judged.counts),
                extra=self.state.extra + judged.extra,
                read=self.state.read + judged.read,
            )
        )
        if not await self._states.checkpoint(self.state, [], self._token, judged.names):
            raise LeaseLost(self.state.name)
        if self.state.options.dry_run:
            return number
        batches = list(batches_of(judged.wanted, number))
        await bringing.note(batches)
        return number + len(batches)

    async def _settle(self, bringing: Bringing, most: int) -> None:
        """Wait until no more than so many batches are under way."""
        while len(bringing.under_way) > most:
            await self._obey()
            await bringing.note_again()
            await bringing.settle()
            await self._put(self.state)
            if len(bringing.under_way) > most:
                await asyncio.sleep(TICK_S / 5)
