"""The origin control of sources that are read by themselves: every host has room; what was asked is noted."""

from __future__ import annotations

import contextlib


class FreeControl:
    """Slots without end, as `OriginControl` gives them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bytes = 0
        #: Slots that are held, and the most that were at once.
        self.held = 0
        self.most = 0

    async def acquire(self, host, lane, *, timeout_s):
        assert timeout_s > 0
        self.asked.append(f"{lane.value} {host}")
        self.held += 1
        self.most = max(self.most, self.held)
        return self._slot()

    @contextlib.asynccontextmanager
    async def _slot(self):
        try:
            yield self
        finally:
            self.held -= 1

    async def pace(self, n_bytes):
        self.bytes += n_bytes
