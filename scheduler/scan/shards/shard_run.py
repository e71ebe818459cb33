"""One shard of a scan: the same run as a whole scan's, over its range.

Owns what makes it another one: numbers of batches and the pace of sending are the whole run's. Named keys and
limits are the coordinator's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scheduler.scan.compare.compare import Groups
from scheduler.scan.comparing import ComparingRun
from scheduler.scan.names import BLOCK_LINES, MOST_WAITING
from scheduler.scan.shards.range_run import RangeRun
from workers.ledger.names import ScanNames

if TYPE_CHECKING:
    from scheduler.scan.compare.compare import Window


class ShardRun(RangeRun, ComparingRun):
    """Runs one shard of a scan."""

    async def _work(self) -> None:
        self._groups = Groups(self.state.groups)
        await self._send(await self._states.window(self.state.name))
        if self.state.checkpoint is None or not self.state.checkpoint.compared:
            async with self._reading():
                await self._compare()

    def _done(self) -> int:
        return sum(counts.found for counts in self.state.groups.values())

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

    async def _seen(self, window: Window) -> None:
        """Count what the source names and cannot be asked for, with the window that it stands in."""
        if self._source is not None:
            place = None if window.ended else window.last_key
            await self._source.count(window, place, self.state, self._selection, self._groups, self._services)

    async def _reserved(self, batches: int) -> int:
        if not batches:
            return self.state.checkpoint.batch if self.state.checkpoint else 0
        return await self._shards.reserve(batches)
