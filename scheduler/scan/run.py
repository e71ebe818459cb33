"""The coordinator of one scan: inventory, comparison, batches to the cold queue, and the wait for their end.

Owns the order that makes the account exact: counts and batches are checkpointed together, then the batches
are opened in the ledger, then they are enqueued. Whatever dies in between, the next coordinator repeats what
the queue may lack of the last window, under the same numbers, and goes on behind it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.merge import OutOfOrder
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import NotThisFile, read_blocks, sorted_as
from scheduler.scan.held import LeaseLost, ScanCancelled
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory_run import NotToBeContinued
from scheduler.scan.limits import NearlyAllAbsent, StoppedByLimit
from scheduler.scan.record.state import not_to_be_continued
from scheduler.scan.shards.cut_scan import CutRun
from workers.errors import BrokerUnavailable, FerrymanError, described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanState
    from workers.store.guarantees import StoreGuarantees

log = structlog.get_logger(__name__)


class Coordinator(CutRun):
    """Runs one scan to its end, from the beginning or from its checkpoint."""

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
        await self._names.forget_others()
        await self._send(await self._states.window(state.name))
        point = self.state.checkpoint
        if point is None or not point.compared:
            await (self._in_shards() if await self._is_cut() else self._inventory_and_listing())
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

    def _entries(self, after: str | None) -> Iterator[Block[Entry]]:
        state = self.state
        return read_blocks(
            Path(state.inventory_file),
            Collation(state.collation),
            after=after,
            of=inventory_of(state),
            keys=state.inventory_keys,
        )

    async def _reserved(self, batches: int) -> int:
        del batches
        return self.state.checkpoint.batch if self.state.checkpoint else 0

    async def _begin_anew(self, state: ScanState) -> None:
        if state.checkpoint is not None and state.checkpoint.batch == 0:
            # Nothing was sent: what such a listing made of the counts need not stay.
            await self._put(
                replace(state, checkpoint=None, groups=state.inventory_groups, extra=0), names_void=True
            )
        else:
            await self._put(state)
