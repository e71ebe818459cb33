"""The coordinator of a scan that is cut: whether it is, and the sum of what its shards count.

Owns the sentence that says why a scan is not cut; how a run is cut and seen to its end is `cutting`'s.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from scheduler.scan.compare.wanted import added
from scheduler.scan.held import LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory_run import InventoryRun
from scheduler.scan.ranges import cut
from scheduler.scan.record.shard import Shard
from scheduler.scan.record.state import Checkpoint, Counts
from scheduler.scan.shards.cutting import Cutting, why_one
from scheduler.scan.shards.source import lists_in_ranges
from workers.ledger.failures import UNREAD_PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.scan.record.shard import KeyRange
    from scheduler.scan.record.state import Phase, ScanState
    from workers.store.guarantees import StoreGuarantees

log = structlog.get_logger(__name__)


class CutRun(Cutting, InventoryRun):
    """A scan that may be cut into shards."""

    # ------------------------------------------------------------------ whether

    async def _is_cut(self) -> bool:
        """Whether the run compares in shards; a run that begins is cut now, where it was asked for."""
        state = self.state
        if state.shards or state.options.shards == 1 or state.checkpoint is not None or state.one_shard:
            return bool(state.shards)
        guarantees = await self._services.store.guarantees(state.options.bucket)
        why = why_one(state, guarantees)
        if not why:
            listed = self._source_in_ranges(guarantees)
            # Where to cut is found out of what is there: with a slow store that takes a while.
            await self._put(replace(state, phase="inventory", source_listed=listed))
            if not listed and not await asyncio.to_thread(self._has_inventory):
                await self._read_inventory()
            found = await self._places()
            ranges = cut(found.points, Collation(self.state.collation))
            if len(ranges) > 1:
                await self._write_cut(ranges, found.keys)
                return True
            why = "there are too few keys to cut"
        log.info("scan_runs_as_one", scan=state.name, reason=why)
        await self._put(replace(self.state, one_shard=why, source_listed=False))
        return False

    def _source_in_ranges(self, guarantees: StoreGuarantees) -> bool:
        """Whether each shard can list its own part of the source."""
        return lists_in_ranges(self.state.options.inventory, guarantees)

    async def _write_cut(self, ranges: Sequence[KeyRange], keys: int) -> None:
        state = replace(self.state, phase="compare", shards=len(ranges))
        blank = replace(
            state, phase="requested", groups={}, inventory_groups={}, read=0, duplicates=0, shards=0, pages=0,
            unread=0, outside=0, active_s=0.0, started_at=0.0,
        )  # fmt: skip
        shards = [
            replace(
                blank,
                name=self._shards.name(number),
                shard=Shard(number=number, range=one, expected=keys // len(ranges)),
            )
            for number, one in enumerate(ranges)
        ]
        self.state = self._stamped(state)
        if not await self._shards.cut(self.state, self._token, shards):
            raise LeaseLost(state.name)
        log.info("scan_cut", scan=state.name, shards=len(ranges), keys=keys)

    # ------------------------------------------------------------------ while they run

    async def _in_shards(self) -> None:
        """See all shards to their end.

        Raises:
            ShardFailed: one of them could not go on; the others are stopped.
        """
        if not self.state.source_listed and not await asyncio.to_thread(self._has_inventory):
            await self._read_inventory()
        await self._put(replace(self.state, phase="compare"))
        await self._all_done(await self._run_shards())

    def _summed(self, every: Sequence[ScanState]) -> ScanState:
        return summed(self.state, every)

    def _left_of(self, shard: ScanState) -> float:
        return left_of(shard)

    async def _tend(self) -> None:
        await self._names_wait()

    async def _all_done(self, every: Sequence[ScanState]) -> None:
        state = summed(self.state, every)
        if state.source_listed:
            state = replace(state, inventory_complete=True, unread=await self._unread_places())
        last = max((one.checkpoint.batch for one in every if one.checkpoint), default=0)
        await self._put(
            replace(state, phase="move", checkpoint=Checkpoint(key="", batch=last, compared=True))
        )
        await self._shards.allow(running=False)
        await self._shards.forget_windows(one.shard.number for one in every if one.shard)
        await self._withdraw_inventory()

    async def _finish(self, phase: Phase, *, error: str = "") -> None:
        await super()._finish(phase, error=error)
        if phase == "cancelled" and self.state.shards:
            await self._withdraw_inventory()

    async def _unread_places(self) -> int:
        failures = self._services.ledger.failures.iterate(self.state.options.bucket)
        return sum([one.reason == UNREAD_PLACE and one.scan == self.state.run async for one in failures])


def summed(state: ScanState, shards: Sequence[ScanState]) -> ScanState:
    """A scan's record with the sum of what its shards count. Pure."""
    groups = dict(state.inventory_groups)
    for one in shards:
        groups = added(
            groups,
            {
                (group, what): getattr(row, what)
                for group, row in one.groups.items()
                for what in Counts.__dataclass_fields__
            },
        )
    state = replace(state, groups=groups, extra=sum(one.extra for one in shards))
    if state.options.reverse:
        # The store is what is read, and it is listed by the shards.
        state = replace(state, read=sum(one.read for one in shards))
    elif state.source_listed:
        state = replace(state, read=_found(state))
    return state


def left_of(shard: ScanState) -> float:
    """How many keys a shard has likely before it; at least a share of those behind. Pure."""
    if shard.phase == "done" or shard.shard is None:
        return 0.0
    found = sum(row.found for row in shard.groups.values())
    return max(shard.shard.expected - found, found * 0.05)


def _found(state: ScanState) -> int:
    return sum(row.found for row in state.groups.values())
