"""One range of a scan the other way round, worked off by whichever process took its message.

Owns the order that makes the account exact: counts, named keys and the batches that are under way are written
in one step with the checkpoint; only then are the batches opened and noted. Whoever goes on behind it notes
the same batches once more, under the same numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import structlog

from scheduler.scan.compare.compare import Groups, Selection
from scheduler.scan.compare.listing import listing_in
from scheduler.scan.compare.merge import Block, OutOfOrder, merge
from scheduler.scan.compare.wanted import added
from scheduler.scan.held import TICK_S, LeaseLost
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.record.state import Checkpoint, ScanStates
from scheduler.scan.reverse.bringing import Bringing, batches_of, decoded, encoded
from scheduler.scan.reverse.judging import Judge
from scheduler.scan.reverse.origin_listing import OriginListing
from scheduler.scan.reverse.sides import Sides
from scheduler.scan.shards.range_run import RangeRun
from scheduler.scan.shards.source import RangedBucket
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.reverse.judging import Both
    from scheduler.scan.shards.records import ShardStates
    from workers.store.model import ListedObject

#: Keys between two checkpoints, and batches that a range has under way at most when it goes on.
STEP: Final = 2_000
_UNDER_WAY: Final = 10

log = structlog.get_logger(__name__)


class RunIsAnother(FerrymanError):
    """The scan has begun anew meanwhile."""


class ReverseShard(RangeRun):
    """Runs one shard of a scan the other way round."""

    def __init__(
        self,
        services: Services,
        states: ShardStates,
        state: ScanState,
        *,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(services, states, state, clock=clock)
        self._directory = directory
        self._selection = Selection(state.options, now=state.requested_at)
        self._bringing = Bringing(services, state.options.bucket, state.run)
        self._scan = state
        self._sides = Sides((), "")
        #: Lists the origin range by range; None: it was read into the inventory.
        self._theirs: OriginListing | None = None

    @property
    def _inventory_state(self) -> ScanState:
        # The scan's own: what the origin has may have been read once more.
        return self._scan

    def _done(self) -> int:
        return sum(counts.found for counts in self.state.groups.values())

    @property
    def _compared(self) -> bool:
        return self.state.checkpoint is not None and self.state.checkpoint.compared

    async def _work(self) -> None:
        services, options = self._services, self.state.options
        namespace = services.settings.broker.namespace
        name = self.state.run.rpartition("-")[0]
        scan = await ScanStates(services.redis, namespace=namespace).get(name)
        if scan is None or scan.run != self.state.run:
            raise RunIsAnother(f"scan {name} has begun anew since")
        self._scan = scan
        self._sides = Sides.of(services.rules.snapshot(options.bucket), options.bucket, options.prefix)
        self._judge = Judge(services, options, self._selection, Groups(self.state.groups))
        await self._bringing.note(decoded(await self._states.kept_window(self.state.name)))
        if not self._compared:
            async with self._reading():
                await self._compare()
        await self._settle(0)

    @contextlib.asynccontextmanager
    async def _reading(self) -> Any:
        if self._scan.source_listed:
            self._theirs = OriginListing(self._services.origin_writer.wire, self._sides)
            yield
            return
        async with super()._reading():
            yield

    def _entries(self, after: str | None) -> Iterator[Block[Entry]]:
        if self._theirs is not None:
            return self._theirs.blocks(self._range, Collation.BYTES, after=after)
        return super()._entries(after)

    # ------------------------------------------------------------------ beside each other

    async def _compare(self) -> None:
        while not self._compared:
            try:
                await self._compare_in_one_go()
            except OutOfOrder as error:
                if error.side != "listing" or self.state.listing_sorted:
                    raise
                log.warning("listing_sorted_here", shard=self.state.name, reason=str(error))
                await self._put(replace(self.state, listing_sorted=True))

    async def _compare_in_one_go(self) -> None:
        state, options, point = self.state, self.state.options, self.state.checkpoint
        after = point.key if point and point.key else None
        feed, listing = await listing_in(
            Collation.BYTES,
            self._services.store,
            options.bucket,
            options.prefix,
            file=self._directory / f"{state.name.replace('/', '.')}.listing",
            sort=state.listing_sorted,
            after=after,
            continuation=point.continuation if point else None,
            of=self._range,
        )
        both = merge(self._entries(after), self._ours(listing), on_duplicate=passed_over)
        while not self._compared:
            await self._obey()
            await self._names_room()
            step = await asyncio.to_thread(take, both, STEP)
            await self._take(step, feed.continuation)
            if not self._compared and await self._shortened():
                return

    def _ours(self, listing: Iterator[Block[ListedObject]]) -> Iterator[Block[ListedObject]]:
        return of_mine(listing, self._sides)

    async def _take(self, step: Sequence[Both], continuation: str | None) -> None:
        """Count a step, and ask for what is to be brought."""
        state = self.state
        judged = await self._judge.judged(step)
        batches = list(batches_of(judged.wanted, 0))
        if state.options.dry_run:
            batches = []
        first = await self._shards.reserve(len(batches)) if batches else 0
        batches = [one._replace(number=first + one.number) for one in batches]
        key = key_of(step[-1]) if step else state.checkpoint.key if state.checkpoint else ""
        last = max(state.checkpoint.batch if state.checkpoint else 0, first + len(batches))
        self.state = self._stamped(
            replace(
                state,
                groups=added(state.groups, judged.counts),
                extra=state.extra + judged.extra,
                read=state.read + judged.read,
                checkpoint=Checkpoint(
                    key=key, continuation=continuation, batch=last, compared=len(step) < STEP
                ),
            )
        )
        window = encoded([*self._bringing.under_way, *batches])
        if not await self._states.checkpoint_with(self.state, window, self._token, judged.names):
            raise LeaseLost(state.name)
        await self._bringing.note(batches)
        await self._settle(_UNDER_WAY)

    async def _settle(self, most: int) -> None:
        """Wait until no more than so many batches are under way."""
        while len(self._bringing.under_way) > most:
            await self._bringing.settle()
            if len(self._bringing.under_way) > most:
                await asyncio.sleep(TICK_S)
                await self._obey()
                await self._bringing.note_again()
                await self._put(self.state)

    # ------------------------------------------------------------------ a shorter range

    async def _middle(self, after: str) -> tuple[str | None, int]:
        """By the store's own keys; where there are few, by the origin's."""
        options = self.state.options
        store = RangedBucket(self._services.store, options.bucket, options.prefix, wanted=True)
        at, behind = await store.middle(after, self._range.end)
        if at is None and self._theirs is None:
            return await super()._middle(after)
        return at, behind


def of_mine(listing: Iterator[Block[ListedObject]], sides: Sides) -> Iterator[Block[ListedObject]]:
    """What of a listing such a scan is about."""
    for block in listing:
        kept = [at for at, key in enumerate(block.places) if sides.has(key)]
        if len(kept) == len(block.places):
            yield block
        elif kept:
            yield Block([block.places[at] for at in kept], [block.items[at] for at in kept])


def take(both: Iterator[Both], most: int) -> list[Both]:
    """The next keys; fewer at the end."""
    return list(islice(both, most))


def key_of(one: Both) -> str:
    """The key that is looked at."""
    theirs, ours = one
    if ours is not None:
        return ours.key
    assert theirs is not None
    return theirs.key


def passed_over(_side: str, _place: str) -> None:
    """A key that comes twice is looked at once."""
