"""Everybody who wants the same missing key at the same time gets it from one pull.

Owns the fills of this process by key, and which keys it has stored lately: a look-up that began before such
a commit may still say 404. Knows nothing of how a fill is done; the herd of other processes is `claim`'s
business.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from scheduler.front.pull.fill import Failed
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from scheduler.front.pull.fill import Fill

log = structlog.get_logger()

#: Keys stored lately that are remembered.
MAX_RECENT = 10_000
#: Seconds that a look-up of another gateway may lag behind the request it caused.
STALE_S = 2.0


class Herd:
    """The fills of this process."""

    def __init__(self, run: Callable[[Fill], Awaitable[None]]) -> None:
        self._run = run
        self._fills: dict[tuple[str, str], Fill] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stored: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def running(self, bucket: str, key: str) -> Fill | None:
        """The fill of the key that a new request can follow from the first byte."""
        fill = self._fills.get((bucket, key))
        return fill if fill is not None and fill.joinable else None

    def start(
        self, fill: Fill, run: Callable[[Fill], Awaitable[None]] | None = None, *, shared: bool = True
    ) -> Fill:
        """Begin a fill, in the usual way or by `run`; from now on others follow it, if it is `shared`."""
        if shared:
            self._fills[fill.bucket, fill.key] = fill
        task = asyncio.create_task(self._guarded(fill, run or self._run), name="fill")
        fill.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fill

    async def _guarded(self, fill: Fill, run: Callable[[Fill], Awaitable[None]]) -> None:
        try:
            await run(fill)
        except Exception:
            log.exception("fill_crashed", bucket=fill.bucket, key=fill.key)
        finally:
            self.forget(fill)
            # Only after a crash, or when the process stops: followers must never wait for ever.
            if not fill.opening.done():
                fill.settle(Failed(error=StoreUnavailable("the pull ended without an answer")))

    def forget(self, fill: Fill) -> None:
        """Nobody new follows this fill; those who do go on."""
        name = (fill.bucket, fill.key)
        if self._fills.get(name) is fill:
            del self._fills[name]

    def stored(self, bucket: str, key: str) -> None:
        """The key has just been committed to the store."""
        self._stored[bucket, key] = asyncio.get_running_loop().time()
        self._stored.move_to_end((bucket, key))
        while len(self._stored) > MAX_RECENT:
            self._stored.popitem(last=False)

    def stored_since(self, bucket: str, key: str, looked_at: float) -> bool:
        """Whether a look-up that began at `looked_at` (loop time) may have missed our own commit."""
        at = self._stored.get((bucket, key))
        return at is not None and at >= looked_at

    async def close(self, drain_s: float) -> None:
        """Let fills end within `drain_s` seconds, then cancel them: they hand their keys to the queue."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=drain_s)
        for task in late:
            task.cancel()
        if late:
            log.info("fills_cut", count=len(late))
            await asyncio.wait(late)
