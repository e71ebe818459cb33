"""Processes that run scans, and a Redis that stands still under them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from scheduler.config.run_settings import write_run_settings
from scheduler.scan.record.state import LEASE_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from scheduler.config.settings import Settings


class Processes:
    """Commands of Ferryman as processes, which end with the test."""

    def __init__(self, config: Path) -> None:
        self._config = str(config)
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """One more, not waited for."""
        whole = [sys.executable, "-P", "-m", "scheduler.cli", *command, "--config", self._config]
        process = subprocess.Popen(
            whole, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.running.append(process)
        return process

    async def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL."""
        process.kill()
        await asyncio.to_thread(process.wait)
        self.running.remove(process)


@contextlib.asynccontextmanager
async def running_processes(settings: Settings) -> AsyncIterator[Processes]:
    """Processes with these settings; what runs at the end of the block is killed."""
    found = Processes(write_run_settings(settings, "test"))
    try:
        yield found
    finally:
        for one in list(found.running):
            await found.kill(one)


async def server_of(fleet: Any) -> int:
    """Process id of the Redis of a fleet."""
    return int((await fleet.services.redis.info("server"))["process_id"])


async def outage(fleet: Any, processes: Processes, *, killed: Sequence[subprocess.Popen[bytes]] = ()) -> None:
    """Have Redis stand still for longer than leases last, and kill processes meanwhile."""
    server = await server_of(fleet)
    os.kill(server, signal.SIGSTOP)
    try:
        for one in killed:
            await processes.kill(one)
        await asyncio.sleep(LEASE_MS / 1000 + 3)
    finally:
        os.kill(server, signal.SIGCONT)
