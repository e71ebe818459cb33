"""One shard of a scan, run by whichever process took its message: to its end, or until it is told to stop.

Owns what makes a shard's run another one than a whole scan's: its record is under its own lease, numbers of
batches are given out for the whole run, orders come from the scan, and its range may become shorter at its
checkpoint. Named keys and limits are the coordinator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.published import place_of
from scheduler.scan.compare.ranges import open_inventory
from scheduler.scan.compare.sorted_file import NotThisFile
from scheduler.scan.comparing import ComparingRun
from scheduler.scan.held import LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import BLOCK_LINES, MOST_WAITING
from scheduler.scan.ranges import split
from scheduler.scan.shards.source import RangedBucket
from workers.errors import BrokerUnavailable, FerrymanError, described
from workers.ledger.names import ScanNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.runtime import Services
    from scheduler.scan.compare.compare import Window
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.compare.ranges import SortedInventory
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.shard import Shard
    from scheduler.scan.shards.records import ShardStates
    from scheduler.scan.state import ScanState

#: Keys that each half of a split has at least.
LEAST_KEYS = 2_000

log = structlog.get_logger(__name__)


class ShardStopped(FerrymanError):
    """The scan is paused, over, or has no coordinator's word yet; the shard waits for another message."""


class ShardRun(ComparingRun):
    """Runs one shard."""

    def __init__(self, services: Services, states: ShardStates, state: ScanState, **more: Any) -> None:
        super().__init__(services, states, state, **more)
        self._shards = states
        self._split_wanted = False
        self._inventory: SortedInventory | None = None
        self._source: RangedBucket | None = None

    @property
    def _shard(self) -> Shard:
        assert self.state.shard is not None
        return self.state.shard

    async def _to_its_end(self) -> None:
        name = self.state.name
        # What was known when the message was read may be older than the lease.
        found = await self._states.get(name)
        if found is None or found.phase in {"done", "failed"}:
            return
        self.state = found
        self._groups = Groups(found.groups)
        try:
            await self._obey()
            worker = f"{socket.gethostname()}:{os.getpid()}"
            began = found.started_at or time.time()
            await self._put(
                replace(found, phase="compare", started_at=began, shard=replace(self._shard, worker=worker))
            )
            # A process that began while Redis was away knows no rule yet: every key would seem to match none.
            await self._services.rules.refresh()
            await self._services.store.guarantees(found.options.bucket)
            await self._send(await self._states.window(name))
            if found.checkpoint is None or not found.checkpoint.compared:
                async with self._reading():
                    await self._compare()
            await self._finish("done")
            await self._shards.forget_windows([self._shard.number])
        except ShardStopped:
            log.info("shard_stopped", shard=name)
        except (RedisError, BrokerUnavailable, LeaseLost):
            raise
        except (FerrymanError, OSError) as error:
            log.error("shard_failed", shard=name, error=str(error))  # noqa: TRY400  # the message says it all
            await self._finish("failed", error=str(error))
        except Exception as error:
            log.exception("shard_failed_unexpectedly", shard=name)
            await self._finish("failed", error=f"internal error: {described(error)}")

    # ------------------------------------------------------------------ what is told

    async def _obey(self) -> None:
        """Hear what the scan is told.

        Raises:
            ShardStopped: not to go on.
            LeaseLost: somebody else runs this shard now.
        """
        told = await self._shards.told(self._shard.number)
        if not told.go_on:
            raise ShardStopped(self.state.name)
        if not await self._states.renew(self.state.name, self._token):
            raise LeaseLost(self.state.name)
        self._split_wanted = told.split

    async def _pace(self, seconds: float) -> None:
        await self._wait(await self._shards.pace(seconds))

    async def _names_wait(self) -> bool:
        """Whether the store takes no names: the coordinator puts them away."""
        names = ScanNames(self._services.redis, namespace=self._services.settings.broker.namespace)
        now = asyncio.get_running_loop().time()
        if now >= self._names_due:
            self._names_due = now + 1.0
            self._names_waiting = await names.waiting(self.state.run, a_block=BLOCK_LINES)
        return self._names_waiting > MOST_WAITING

    # ------------------------------------------------------------------ the inventory of the range

    @contextlib.asynccontextmanager
    async def _reading(self) -> Any:
        """Have the inventory of the range for as long as it is compared."""
        state, services = self.state, self._services
        if state.source_listed:
            walk_prefix = state.options.prefix
            async with RangedBucket.opened(state.options.inventory, services, walk_prefix) as source:
                self._source = source
                yield
            return
        bucket = services.settings.report_bucket or state.options.bucket
        try:
            self._inventory = await open_inventory(services.store, bucket, state)
        except NotThisFile:
            # The coordinator has it, and publishes it when it hears of that.
            await self._shards.say_unshared()
            log.info("inventory_not_here", shard=state.name, waits_for=place_of(state.run))
            raise ShardStopped(state.name) from None
        yield

    def _entries(self, after: str | None) -> Iterator[Block[Entry]]:
        range_, collation = self._range, Collation(self.state.collation)
        if self._source is not None:
            return self._source.blocks(range_, collation, after=after)
        assert self._inventory is not None
        return self._inventory.blocks(range_.begin or None, range_.end, after=after)

    async def _seen(self, window: Window) -> None:
        """Count what the source names and cannot be asked for, with the window that it stands in."""
        if self._source is not None:
            place = None if window.ended else window.last_key
            await self._source.count(window, place, self.state, self._selection, self._groups, self._services)

    async def _reserved(self, batches: int) -> int:
        if not batches:
            return self.state.checkpoint.batch if self.state.checkpoint else 0
        return await self._shards.reserve(batches)

    # ------------------------------------------------------------------ a shorter range

    async def _shortened(self) -> bool:
        """Split the rest of the range where somebody wants it and there is enough of it."""
        point = self.state.checkpoint
        if not self._split_wanted or point is None or not point.key:
            return False
        self._split_wanted = False
        shard, state = self._shard, self.state
        at, behind = await self._middle(point.key)
        if at is None:
            await self._shards.not_split(shard.number)
            return False
        left, right = split(shard.range, at, Collation(state.collation))
        number = await self._shards.next_number()
        done = sum(counts.found for counts in state.groups.values())
        ours = replace(
            shard, range=left, generation=shard.generation + 1, expected=max(done, shard.expected - behind)
        )
        theirs = replace(
            shard, number=number, range=right, generation=shard.generation + 1, expected=behind, worker=""
        )
        new = replace(
            state, name=self._shards.name(number), phase="requested", shard=theirs, checkpoint=None,
            groups={}, extra=0, active_s=0.0, started_at=0.0, updated_at=time.time(), waiting="",
        )  # fmt: skip
        shorter = replace(state, shard=ours)
        if not await self._shards.split(shorter, new, self._token):
            raise LeaseLost(state.name)
        self.state = shorter
        log.info("shard_split", shard=state.name, new=new.name)
        return True

    async def _middle(self, after: str) -> tuple[str | None, int]:
        """A key that halves what is left behind one, about, and how many keys come behind it."""
        end_ = self._range.end
        if self._source is not None:
            return await self._source.middle(after, end_)
        assert self._inventory is not None
        index = self._inventory.index
        for at in index.cuts(2, after, end_):
            behind = index.count(at, end_)
            if at > after and min(behind, index.count(after, at)) >= LEAST_KEYS:
                return at, behind
        return None, 0
