"""Processes that run shards are killed at any moment, and the coordinator with them: counts stay exact."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from scheduler.config.run_settings import write_run_settings
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import flaw
from scheduler.scan.service import scan_options
from support.installation import eventually
from support.scan.shards import found_in, put, shards_of

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


async def test_kill_9_of_processes_that_run_shards_and_of_the_coordinator_counts_every_key_once(
    bytes_fleet, bytes_store
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n % 9}/{n:06}" for n in range(20_000)]
    put(store, keys[::2])
    store.takes_s["list"] = 0.8
    config = write_run_settings(fleet.settings, "test")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}

    def process(*more):
        command = [
            sys.executable,
            "-P",
            "-m",
            "scheduler.cli",
            "scan",
            "serve",
            "--config",
            str(config),
            *more,
        ]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    options = {
        "bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(keys)}, "shards": 3, "dry_run": True,
        "compare": (),
    }  # fmt: skip
    await fleet.scans.start("s", scan_options(fleet.settings, "s", options))
    running = [process(), process("--only-shards", "--threads", "2")]

    async def found(least):
        _, shards = await shards_of(fleet)
        return sum(map(found_in, shards)) >= least

    async def ended():
        return (await fleet.scans.states.get("s")).phase in {"done", "failed"}

    try:
        await eventually(lambda: found(4_000), "some keys are compared")
        for one in running:
            one.kill()
            await asyncio.to_thread(one.wait)
        running = [process(), process("--only-shards", "--threads", "2")]
        await eventually(ended, "the scan ends", timeout_s=120)
    finally:
        for one in running:
            one.kill()
            await asyncio.to_thread(one.wait)
    report = await fleet.report("s")
    total = report["total"]
    assert (report["phase"], total["found"], total["present"]) == ("done", 20_000, 10_000), report
    assert (report["would_fetch"], report["extra"]) == (10_000, 0)
    _, shards = await shards_of(fleet)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
