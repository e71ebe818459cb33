"""One range of a run that is cut, worked off by whichever process took its message.

Owns what every such run has, whatever is done with the keys: its record under a lease of its own, orders that
come from the run, the inventory of the range, and that the range may become shorter at its checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from scheduler.scan.compare.published import place_of
from scheduler.scan.compare.ranges import open_inventory
from scheduler.scan.compare.sorted_file import NotThisFile
from scheduler.scan.held import TICK_S, HeldRun, LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import BLOCK_LINES, MOST_WAITING
from scheduler.scan.ranges import split
from scheduler.scan.shards.records import RunForgotten
from scheduler.scan.shards.source import RangedBucket
from workers.errors import BrokerUnavailable, FerrymanError, described
from workers.ledger.names import ScanNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.runtime import Services
    from scheduler.scan.compare.merge import Block
    from scheduler.scan.compare.ranges import SortedInventory
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.shard import KeyRange, Shard
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.shards.records import ShardStates

#: Keys that each half of a split has at least.
LEAST_KEYS = 2_000

log = structlog.get_logger(__name__)


class ShardStopped(FerrymanError):
    """The run is paused, over, or has no coordinator's word yet; the shard waits for another message."""


class RangeRun(HeldRun):
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

    @property
    def _range(self) -> KeyRange:
        return self._shard.range

    @property
    def _inventory_state(self) -> ScanState:
        """The record of the run that the inventory was read by."""
        return self.state

    @abstractmethod
    async def _work(self) -> None:
        """Work the range off, from its checkpoint on."""

    @abstractmethod
    def _done(self) -> int:
        """How many keys of the range were worked off so far."""

    async def _to_its_end(self) -> None:
        name = self.state.name
        # What was known when the message was read may be older than the lease.
        found = await self._states.get(name)
        if found is None or found.phase in {"done", "failed"}:
            return
        self.state = found
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
            await self._work()
            await self._finish("done")
            await self._shards.forget_windows([self._shard.number])
        except (ShardStopped, RunForgotten):
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
        """Hear what the run is told.

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

    async def _names_room(self) -> None:
        """Wait for as long as the store takes no names of keys: the coordinator puts them away."""
        names = ScanNames(self._services.redis, namespace=self._services.settings.broker.namespace)
        while await names.waiting(self.state.run, a_block=BLOCK_LINES) > MOST_WAITING:
            await asyncio.sleep(TICK_S)
            await self._obey()

    # ------------------------------------------------------------------ the inventory of the range

    @contextlib.asynccontextmanager
    async def _reading(self) -> Any:
        """Have the inventory of the range for as long as it is worked off."""
        state, services = self._inventory_state, self._services
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
            log.info("inventory_not_here", shard=self.state.name, waits_for=place_of(state.run))
            raise ShardStopped(self.state.name) from None
        yield

    def _entries(self, after: str | None) -> Iterator[Block[Entry]]:
        range_, collation = self._range, Collation(self.state.collation)
        if self._source is not None:
            return self._source.blocks(range_, collation, after=after)
        assert self._inventory is not None
        return self._inventory.blocks(range_.begin or None, range_.end, after=after)

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
        ours = replace(
            shard,
            range=left,
            generation=shard.generation + 1,
            expected=max(self._done(), shard.expected - behind),
        )
        theirs = replace(
            shard, number=number, range=right, generation=shard.generation + 1, expected=behind, worker=""
        )
        new = replace(
            state, name=self._shards.name(number), phase="requested", shard=theirs, checkpoint=None,
            groups={}, extra=0, read=0, verified=None, active_s=0.0, started_at=0.0, updated_at=time.time(),
            waiting="",
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
