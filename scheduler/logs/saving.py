"""When a consumer's checkpoint is written: beside the reading, never in its way.

Owns the one write that is under way, and what is told when the disk refuses it. A disk may take 10 ms and
more for each write; what has moved meanwhile is written with the next one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from scheduler.logs.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

#: Seconds between writes of a checkpoint that moved over lines without misses.
_QUIET_S = 1.0
#: Seconds between warnings.
_WARN_S = 60.0


class Saver:
    """Writes one checkpoint in a thread, one write at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._saved_at = 0.0
        self._warned_at = float("-inf")

    def soon(self) -> None:
        """Write at once, or when the write that is under way has ended."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def now_and_then(self) -> None:
        """For lines without misses, which move the checkpoint, too, and for a disk that has room again."""
        if time.monotonic() - self._saved_at >= _QUIET_S:
            self.soon()

    def finish(self) -> None:
        """Write what is left, here and now."""
        if self._task is not None:
            self._task.cancel()
        self._save()  # waits for a thread that is writing

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            await asyncio.to_thread(self._save)

    def _save(self) -> None:
        self._saved_at = now = time.monotonic()
        try:
            self._checkpoint.save()
        except OSError as error:
            # A full disk: what was accepted is in the queue, and the next save says so.
            if now - self._warned_at >= _WARN_S:
                self._warned_at = now
                log.warning("checkpoint_not_written", path=str(self._checkpoint.path), error=str(error))
