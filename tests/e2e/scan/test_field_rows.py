"""What others got wrong in bulk (FIELD.md, part b), with a real worker process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from scheduler.config.run_settings import write_run_settings
from scheduler.machine.processes import LaneSize, worker_children
from scheduler.misses.event import MissEvent
from support.installation import ferryman, plain_environment
from workers.plan import Lane

if TYPE_CHECKING:
    import threading

pytestmark = pytest.mark.real


async def test_p23_a_key_that_vanished_after_the_listing_ends_as_absent(fleet):
    """P23: the scan converges while the source deletes."""
    fleet.origin.bodies["stays.txt"] = b"x"
    report = await fleet.scan("s", ["gone.txt", "stays.txt"])
    assert report["phase"] == "done"
    total = report["total"]
    assert (total["stored"], total["absent"], total["failed"], total["pending"]) == (1, 1, 0, 0)
    again = await fleet.scan("s", ["gone.txt", "stays.txt"])
    assert (again["phase"], again["total"]["present"], again["total"]["absent"]) == ("done", 1, 1)


async def test_p34_one_failed_key_makes_the_exit_code_1_and_the_counts_add_up(fleet):
    """P34: no success is told when a file failed."""
    fleet.origin.bodies.update({"good.txt": b"x", "bad//key.txt": b"y"})  # SeaweedFS holds no empty segment
    file = write_run_settings(fleet.settings, "test")

    async def scan(name, *keys):
        ended = await asyncio.create_subprocess_exec(
            *ferryman("scan", "start", name, "--bucket", fleet.bucket, "--manifest", fleet.manifest(keys)),
            "--wait", "--json", "--config", str(file),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment(),
        )  # fmt: skip
        out, err = await ended.communicate()
        return ended.returncode, json.loads(out), err

    code, report, err = await scan("one", "good.txt", "bad//key.txt")
    total = report["total"]
    assert code == 1, err
    assert (total["found"], total["stored"], total["failed"], total["pending"]) == (2, 1, 1, 0)
    code, report, err = await scan("two", "good.txt")
    assert (code, report["total"]["present"]) == (0, 1), err


async def test_p46_two_workers_share_four_long_jobs_two_and_two(idle_fleet):
    """P46: no worker hoards what another could begin."""
    fleet = idle_fleet
    keys = [f"long{n}" for n in range(4)]
    gates = {}
    for key in keys:
        fleet.origin.bodies[key] = b"x" * 200_000
        gates[key] = fleet.origin.gate(key)
    for key in keys:  # a message each
        await fleet.services.dispatcher.dispatch([MissEvent(bucket=fleet.bucket, key=key)], lane=Lane.COLD)
    with contextlib.ExitStack() as stack:
        for _, go_on in gates.values():
            stack.callback(go_on.set)
        for child in worker_children(fleet.settings, [Lane.COLD], LaneSize(processes=2, threads=1)):
            await fleet.supervisor.start(child)
        running = await at_once(gates, 2)
        for key in running:
            gates.pop(key)[1].set()
        assert await at_once(gates, 2) == set(gates)


async def at_once(gates: dict[str, tuple[threading.Event, threading.Event]], number: int) -> set[str]:
    """The keys that are half-way, as soon as they are `number`; none has ended yet."""
    async with asyncio.timeout(30):
        while True:
            found = {key for key, (half, _) in gates.items() if half.is_set()}
            if len(found) >= number:
                return found
            await asyncio.sleep(0.02)
