"""The coordinator of a scan that is cut: where to cut, the messages, the sum, and what is to be split.

Owns whether a scan is cut at all, and the sentence that says why one is not. What a shard counts is in its
own record; the coordinator only adds up, so one that dies, or two of them, count nothing twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from scheduler.scan.compare.published import publish, withdraw
from scheduler.scan.compare.ranges import open_local
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.wanted import added
from scheduler.scan.held import TICK_S, LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory_run import InventoryRun
from scheduler.scan.ranges import cut, flaw
from scheduler.scan.shard import Shard
from scheduler.scan.shards.lane import SCAN_LANE, queue_shard
from scheduler.scan.shards.probing import Cuts, cuts
from scheduler.scan.shards.records import ShardStates, capacity
from scheduler.scan.shards.source import RangedBucket, lists_in_ranges
from scheduler.scan.state import Checkpoint, Counts
from workers.errors import FerrymanError, StoreError
from workers.ledger.failures import UNREAD_PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.scan.shard import KeyRange
    from scheduler.scan.state import Phase, ScanState
    from workers.store.guarantees import StoreGuarantees

#: Keys for which `auto` makes a shard, and shards that it makes for each that the fleet can run at once.
_AUTO_KEYS = 20_000
_AUTO_EACH = 4
#: Seconds before the message of a shard that nobody runs is sent again, when the lane is empty.
_AGAIN_S = 5.0
#: Seconds that a shard has run before it may be split.
_SPLIT_AFTER_S = 2.0

log = structlog.get_logger(__name__)


class ShardFailed(FerrymanError):
    """A shard of the scan ended with an error."""


class CutRun(InventoryRun):
    """A run that may be cut into shards."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._shards = ShardStates(
            self._services.redis, namespace=self._services.settings.broker.namespace, run=self.state.run
        )
        #: Number of a shard -> loop time at which its message was sent last.
        self._queued: dict[int, float] = {}
        self._published = False

    # ------------------------------------------------------------------ whether, and where

    async def _is_cut(self) -> bool:
        """Whether the run compares in shards; a run that begins is cut now, where it was asked for."""
        state = self.state
        if state.shards or state.options.shards == 1 or state.checkpoint is not None or state.one_shard:
            return bool(state.shards)
        guarantees = await self._services.store.guarantees(state.options.bucket)
        why = why_one(state, guarantees)
        if not why:
            listed = lists_in_ranges(state.options.inventory, guarantees)
            await self._put(replace(state, source_listed=listed))
            if not listed and not await asyncio.to_thread(self._has_inventory):
                await self._put(replace(self.state, phase="inventory"))
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

    async def _places(self) -> Cuts:
        """The keys to cut at: the inventory's own quantiles, or what a search in the source finds."""
        state, asked = self.state, self.state.options.shards
        redis, namespace = self._services.redis, self._services.settings.broker.namespace
        wanted = asked if isinstance(asked, int) else _AUTO_EACH * max(1, await capacity(redis, namespace))
        if not state.source_listed:
            path, collation = Path(state.inventory_file), Collation(state.collation)
            inventory = await asyncio.to_thread(open_local, path, collation, of=inventory_of(state))
            if asked == "auto":
                wanted = max(1, min(wanted, inventory.index.keys // _AUTO_KEYS))
            return Cuts(inventory.index.cuts(wanted), inventory.index.keys)
        options = state.options
        async with RangedBucket.opened(options.inventory, self._services, options.prefix) as source:
            found = await cuts(source.probe, wanted)
            if asked == "auto" and found.keys // _AUTO_KEYS < wanted:
                found = await cuts(source.probe, max(1, found.keys // _AUTO_KEYS))
        return found

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
        await self._begin_shards()
        try:
            while True:
                await self._obey()
                every = await self._shards.all()
                await self._put(summed(self.state, every))
                if failed := [one for one in every if one.phase == "failed"]:
                    raise ShardFailed(f"shard {failed[0].shard and failed[0].shard.range}: {failed[0].error}")
                left = [one for one in every if one.phase != "done"]
                if not left:
                    break
                await self._names_wait()
                await self._share_inventory()
                await self._queue_again(left)
                await asyncio.sleep(TICK_S)
        except LeaseLost:
            raise
        except FerrymanError:
            await self._shards.allow(running=False)
            raise
        await self._all_done(every)

    async def _begin_shards(self) -> None:
        """Let them run; those that had failed, once more."""
        for one in await self._shards.all():
            if one.phase == "failed":
                await self._shards.put_held(replace(one, phase="requested", error="", finished_at=0.0), "")
        await self._shards.allow(running=True)

    async def _all_done(self, every: Sequence[ScanState]) -> None:
        state = summed(self.state, every)
        wrong = flaw([one.shard.range for one in every if one.shard], Collation(state.collation))
        if wrong:  # a fault of ours, which must not pass for a whole scan
            msg = f"the ranges of the shards do not join: {wrong}"
            raise ShardFailed(msg)
        if state.source_listed:
            state = replace(
                state, inventory_complete=True, read=_found(state), unread=await self._unread_places()
            )
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

    async def _withdraw_inventory(self) -> None:
        """Take it out of the store again; what stays there now is swept."""
        if self._published or await self._shards.unshared():
            bucket = self._services.settings.report_bucket or self.state.options.bucket
            try:
                await withdraw(self._services.store, bucket, self.state.run)
            except StoreError as error:
                log.warning("inventory_not_withdrawn", scan=self.state.name, error=str(error))

    async def _unread_places(self) -> int:
        failures = self._services.ledger.failures.iterate(self.state.options.bucket)
        return sum([one.reason == UNREAD_PLACE and one.scan == self.state.run async for one in failures])

    async def _share_inventory(self) -> None:
        """Put the inventory into the store when some process has no access to its file."""
        state = self.state
        if self._published or state.source_listed or not await self._shards.unshared():
            return
        path, collation = Path(state.inventory_file), Collation(state.collation)
        inventory = await asyncio.to_thread(open_local, path, collation, of=inventory_of(state))
        bucket = self._services.settings.report_bucket or state.options.bucket
        await publish(self._services.store, bucket, state.run, state.inventory_digest, path, inventory.index)
        self._published = True
        log.info("inventory_published", scan=state.name, bucket=bucket)

    async def _queue_again(self, left: Sequence[ScanState]) -> None:
        """Send the messages of shards that nobody runs; and have a slow one split while others are idle.

        A message that is lost, or comes twice or late, does no harm: what counts is who holds the lease.
        """
        services, now = self._services, self._clock()
        numbers = [one.shard.number for one in left if one.shard]
        held = await self._shards.held(numbers)
        depth = await services.queue.depth(SCAN_LANE)
        waiting = [number for number in numbers if number not in held]
        for number in waiting:
            sent_at = self._queued.get(number)
            if sent_at is None or (depth.waiting == 0 and now - sent_at > _AGAIN_S):
                await queue_shard(services.queue, self.state, number)
                self._queued[number] = now
        if waiting:
            return
        idle = await capacity(services.redis, services.settings.broker.namespace) - len(held)
        if idle > 0:
            wishes = await self._shards.wishes(numbers)
            free = [one for one in left if one.shard and one.shard.number not in wishes]
            old = [one for one in free if one.active_s > _SPLIT_AFTER_S and one.checkpoint is not None]
            open_wishes = sum(wish == "wanted" for wish in wishes.values())
            for one in sorted(old, key=lambda one: -left_of(one))[: max(0, idle - open_wishes)]:
                assert one.shard is not None
                await self._shards.want_split(one.shard.number)


def why_one(state: ScanState, guarantees: StoreGuarantees) -> str:
    """Why a scan that was asked to be cut runs as one; empty when it need not. Pure."""
    if state.options.reverse:
        return "the way back compares both listings sorted, as one"
    if state.options.limit is not None:
        return "--limit counts over all keys in their order"
    if guarantees.collation != "bytes":
        how = "by path component" if guarantees.collation == "path" else "in no order that is known"
        return (
            f"the store lists {how}, and a range of keys can only be listed where the order is that of bytes"
        )
    if not guarantees.start_after:
        return "the store does not obey start-after, so a range of keys cannot be listed"
    return ""


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
    if state.source_listed:
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
