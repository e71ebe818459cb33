"""Redis is away for longer than leases last, processes are killed, two coordinate: counts stay exact.

All of them are real processes, and so is the server that stops.
"""

from __future__ import annotations

import pytest

from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import FINDINGS, Names
from scheduler.scan.ranges import flaw
from scheduler.scan.record.state import VERIFICATIONS, ScanStates
from scheduler.scan.service import scan_options
from scheduler.scan.verify.report import last_report
from support.installation import eventually
from support.scan.processes import outage, running_processes
from support.scan.shards import found_in, put, shards_of
from support.valkey import running_valkey

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

KEYS = [f"{n % 9}/{n:06}" for n in range(9_000)]
MISSING = KEYS[::3]
LOST, LONGER = KEYS[1:700:3], KEYS[7_000:7_090:3]


@pytest.fixture
def valkey_url():
    """A server of its own: it is stopped."""
    with running_valkey() as url:
        yield url


@pytest.fixture
async def processes(bytes_fleet):
    async with running_processes(bytes_fleet.settings) as found:
        yield found


async def test_an_outage_longer_than_the_leases_and_kills_in_it_count_and_find_every_key_once(
    bytes_fleet, bytes_store, processes
):
    fleet, store = bytes_fleet, bytes_store
    put(store, set(KEYS) - set(MISSING), b"xx")
    store.takes_s["list"] = 0.3
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\n" + "".join(f"{key},2\n" for key in KEYS))
    options = {"bucket": fleet.bucket, "inventory": {"manifest": str(path)}, "shards": 3, "dry_run": True}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", options))
    first = processes.start("scan", "serve")
    processes.start("scan", "serve")

    async def compared(least):
        _, shards = await shards_of(fleet)
        return sum(map(found_in, shards)) >= least

    await eventually(lambda: compared(1_000), "some keys are compared")
    await outage(fleet, processes, killed=[first])
    second = processes.start("scan", "serve")

    async def ended():
        return (await fleet.scans.states.get("s")).phase in {"done", "failed"}

    await eventually(ended, "the scan ends", timeout_s=120)
    report = await fleet.report("s")
    total = report["total"]
    assert (report["phase"], total["found"]) == ("done", len(KEYS)), report
    assert (total["present"], report["would_fetch"]) == (len(KEYS) - len(MISSING), len(MISSING))
    scan, shards = await shards_of(fleet)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""

    put(store, MISSING, b"xx")
    put(store, LONGER, b"xxx")
    for key in LOST:
        del store.objects[key]
    fleet.origin.bodies.update(dict.fromkeys(KEYS, b"xx"))
    command = processes.start("verify", "s", "--json")
    records = ScanStates(
        fleet.services.redis, namespace=fleet.settings.broker.namespace, records=VERIFICATIONS
    )

    async def looked_at():
        found = await records.get("verify:s")
        return found is not None and found.verified is not None and found.verified.checked > 0

    await eventually(looked_at, "some keys are verified")
    store.takes_s["list"] = 4.0  # it does not end meanwhile
    await outage(fleet, processes, killed=[command, second])
    store.takes_s["list"] = 0.3
    assert (await records.get("verify:s")).phase == "compare"
    processes.start("scan", "serve")

    async def verified():
        found = await records.get("verify:s")
        assert found is not None
        assert found.phase != "failed", found.error
        return found.phase == "done"

    await eventually(verified, "another process goes on with the verification", timeout_s=120)
    found = await last_report(fleet.services, "s")
    assert (found.checked, found.ranges) == (len(KEYS), 3)
    assert found.counts == {"missing": len(LOST), "size": len(LONGER)}
    named = sorted([one.key async for one in Names(fleet.services, scan).read(FINDINGS)])
    assert named == sorted([*LOST, *LONGER])
