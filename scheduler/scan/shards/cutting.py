"""The coordinator of a run that is cut: where to cut, the messages, the sum, and what is to be split.

Owns what every such run has, whatever is done with the keys. What a shard counts is in its own record; the
coordinator only adds up, so one that dies, or two of them, count nothing twice.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from scheduler.scan.compare.published import publish, withdraw
from scheduler.scan.compare.ranges import open_local
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.held import TICK_S, HeldRun, LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import flaw
from scheduler.scan.shards.lane import SCAN_LANE, queue_shard
from scheduler.scan.shards.probing import Cuts, Probed, cuts
from scheduler.scan.shards.records import ShardStates, capacity
from scheduler.scan.shards.source import RangedBucket
from workers.errors import FerrymanError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from scheduler.scan.record.state import ScanState
    from workers.store.guarantees import StoreGuarantees

#: Keys for which `auto` makes a shard, and shards that it makes for each that the fleet can run at once.
_AUTO_KEYS = 20_000
_AUTO_EACH = 4
#: Seconds before the message of a shard that nobody runs is sent again, when the lane is empty.
_AGAIN_S = 5.0
#: Shards that are left when they are looked at five times as often, and times its own length that looks are
#: apart at least.
_LAST_FEW = 16
_TIMES_ITS_LENGTH = 10
#: Seconds that a shard has run before it may be split.
_SPLIT_AFTER_S = 2.0

log = structlog.get_logger(__name__)


class ShardFailed(FerrymanError):
    """A shard of the run ended with an error."""


class Cutting(HeldRun):
    """A run that may be cut into shards."""

    #: The hash of its record, and what messages of its shards say that is to be done.
    _RECORDS = "scans"

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._shards = ShardStates(
            self._services.redis,
            namespace=self._services.settings.broker.namespace,
            run=self.state.run,
            of=self._RECORDS,
        )
        #: Number of a shard -> loop time at which its message was sent last.
        self._queued: dict[int, float] = {}
        self._published = False

    @property
    def _inventory_state(self) -> ScanState:
        """The record of the run that the inventory was read by."""
        return self.state

    @abstractmethod
    def _summed(self, every: Sequence[ScanState]) -> ScanState:
        """The run's record with the sum of what its shards have counted."""

    @abstractmethod
    def _left_of(self, shard: ScanState) -> float:
        """How many keys a shard has likely before it."""

    async def _tend(self) -> None:
        """What else is to be done every now and then while shards run."""

    # ------------------------------------------------------------------ where

    async def _places(self) -> Cuts:
        """The keys to cut at: the inventory's own quantiles, or what a search in the source finds."""
        state = self._inventory_state
        if not state.source_listed:
            return await self._quantiles()
        options = state.options
        async with RangedBucket.opened(options.inventory, self._services, options.prefix) as source:
            return await self._searched(source.probe)

    async def _wanted(self) -> int:
        """Into how many ranges, as far as that was asked for."""
        asked = self.state.options.shards
        if isinstance(asked, int):
            return asked
        redis, namespace = self._services.redis, self._services.settings.broker.namespace
        return _AUTO_EACH * max(1, await capacity(redis, namespace))

    async def _quantiles(self) -> Cuts:
        """Those of the sorted inventory here."""
        state, wanted = self._inventory_state, await self._wanted()
        path, collation = Path(state.inventory_file), Collation(state.collation)
        inventory = await asyncio.to_thread(open_local, path, collation, of=inventory_of(state))
        if self.state.options.shards == "auto":
            wanted = max(1, min(wanted, inventory.index.keys // _AUTO_KEYS))
        return Cuts(inventory.index.cuts(wanted), inventory.index.keys)

    async def _searched(self, probe: Callable[[str | None], Awaitable[Probed]]) -> Cuts:
        """What a search by `probe` finds."""
        wanted = await self._wanted()
        found = await cuts(probe, wanted)
        if self.state.options.shards == "auto" and found.keys // _AUTO_KEYS < wanted:
            found = await cuts(probe, max(1, found.keys // _AUTO_KEYS))
        return found

    # ------------------------------------------------------------------ while they run

    async def _run_shards(self) -> list[ScanState]:
        """See all shards to their end; their records, whose ranges join.

        Raises:
            ShardFailed: one of them could not go on; the others are stopped.
        """
        await self._begin_shards()
        try:
            while True:
                await self._obey()
                began = self._clock()
                every = await self._shards.all()
                looked_s = self._clock() - began
                await self._put(self._summed(every))
                if failed := [one for one in every if one.phase == "failed"]:
                    raise ShardFailed(f"shard {failed[0].shard and failed[0].shard.range}: {failed[0].error}")
                left = [one for one in every if one.phase != "done"]
                if not left:
                    break
                await self._tend()
                await self._share_inventory()
                await self._queue_again(left)
                await asyncio.sleep(pause_s(len(left), looked_s))
        except LeaseLost:
            raise
        except FerrymanError:
            await self._shards.allow(running=False)
            raise
        wrong = flaw([one.shard.range for one in every if one.shard], Collation(self.state.collation))
        if wrong:  # a fault of ours, which must not pass for a whole run
            msg = f"the ranges of the shards do not join: {wrong}"
            raise ShardFailed(msg)
        return every

    async def _begin_shards(self) -> None:
        """Let them run; those that had failed, once more."""
        for one in await self._shards.all():
            if one.phase == "failed":
                await self._shards.put_held(replace(one, phase="requested", error="", finished_at=0.0), "")
        await self._shards.allow(running=True)

    async def _withdraw_inventory(self) -> None:
        """Take it out of the store again; what stays there now is swept."""
        if self._published or await self._shards.unshared():
            bucket = self._services.settings.report_bucket or self.state.options.bucket
            try:
                await withdraw(self._services.store, bucket, self._inventory_state.run)
            except StoreError as error:
                log.warning("inventory_not_withdrawn", scan=self.state.name, error=str(error))

    async def _share_inventory(self) -> None:
        """Put the inventory into the store when some process has no access to its file."""
        state = self._inventory_state
        if self._published or state.source_listed or not await self._shards.unshared():
            return
        path, collation = Path(state.inventory_file), Collation(state.collation)
        inventory = await asyncio.to_thread(open_local, path, collation, of=inventory_of(state))
        bucket = self._services.settings.report_bucket or state.options.bucket
        await publish(self._services.store, bucket, state.run, state.inventory_digest, path, inventory.index)
        self._published = True
        log.info("inventory_published", scan=self.state.name, bucket=bucket)

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
                await queue_shard(services.queue, self.state, number, records=self._RECORDS)
                self._queued[number] = now
        if waiting:
            return
        idle = await capacity(services.redis, services.settings.broker.namespace) - len(held)
        if idle > 0:
            wishes = await self._shards.wishes(numbers)
            free = [one for one in left if one.shard and one.shard.number not in wishes]
            old = [one for one in free if one.active_s > _SPLIT_AFTER_S and one.checkpoint is not None]
            open_wishes = sum(wish == "wanted" for wish in wishes.values())
            for one in sorted(old, key=lambda one: -self._left_of(one))[: max(0, idle - open_wishes)]:
                assert one.shard is not None
                await self._shards.want_split(one.shard.number)


def pause_s(left: int, looked_s: float) -> float:
    """Seconds until the next look at shards of which so many are left, when this one took so long. Pure.

    A process waits for as long where nothing is queued or split any more, and so does the scan's end.
    """
    return max(TICK_S if left > _LAST_FEW else TICK_S / 5, looked_s * _TIMES_ITS_LENGTH)


def why_one(state: ScanState, guarantees: StoreGuarantees) -> str:
    """Why a scan that was asked to be cut runs as one; empty when it need not. Pure."""
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
