"""The inventory of a run: read from its source into a sorted file, or found where an earlier reading left it.

Owns what is counted and listed on the way: keys that cannot be asked for, places that could not be read.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import structlog

from scheduler.scan.compare.compare import Groups
from scheduler.scan.compare.reading import Reading, forget_inventories, inventory_of, inventory_path
from scheduler.scan.compare.sorted_file import NotThisFile, read_header
from scheduler.scan.compare.sorting import in_order
from scheduler.scan.compare.wanted import added, refusal
from scheduler.scan.comparing import ComparingRun
from scheduler.scan.held import TICK_S
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.inventory.opening import open_source, version_of
from scheduler.scan.inventory.ticking import ticking
from scheduler.scan.inventory.walk import Walk
from scheduler.scan.unread import forget_read, list_unread
from workers.errors import FerrymanError

log = structlog.get_logger(__name__)


class NotToBeContinued(FerrymanError):
    """What the run has counted was counted of something else."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{reason}; begin anew: ferryman scan start {name} … --wait")


class InventoryRun(ComparingRun):
    """A run that has, or reads, its inventory."""

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
        begun = self.state.checkpoint is not None or self.state.shards > 0
        again = self.state.inventory_complete and begun
        if not again:
            version = await asyncio.to_thread(version_of, options.inventory)
            await self._put(
                replace(
                    self.state,
                    inventory_complete=False,
                    inventory_version=version,
                    groups={},
                    read=0,
                    duplicates=0,
                )
            )
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
            await self._names.put_inventory(reading.excluded)
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
