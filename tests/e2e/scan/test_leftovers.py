"""A sorted inventory that was lent through the store does not stay there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.scan.service import scan_options
from scheduler.scan.shards.leftovers import withdraw_when_due

pytestmark = pytest.mark.real


async def requested(fleet, name, **changes):
    """A run of this name as its record stands, and what it has put into the store."""
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(["a", "b"])}, "shards": 4}
    await fleet.scans.start(name, scan_options(fleet.settings, name, given))
    state = replace(await fleet.scans.states.get(name), **changes)
    await fleet.scans.states.put(state)
    for block in ("sorted/0123/00000000", "sorted/0123/index", "absent/00000001.jsonl"):
        await fleet.put(f".ferryman/scans/{state.run}/{block}", b"x\t\t\t\n")
    return state


async def objects_of(fleet, state):
    place = f".ferryman/scans/{state.run}/"
    pages = fleet.services.store.list(fleet.bucket, place)
    return [one.key.removeprefix(place) async for page in pages for one in page.objects]


async def test_what_a_killed_run_left_is_swept_and_what_one_under_way_needs_stays(idle_fleet):
    fleet = idle_fleet
    left = await requested(fleet, "left", phase="failed")
    needed = await requested(fleet, "needed", phase="compare")

    async def swept(**more):
        await fleet.services.redis.delete(f"ferryman:scan-sweep:{fleet.bucket}")
        return await withdraw_when_due(fleet.services, fleet.scans.states, **more)

    assert await swept() == 0, "it is young: its run may have begun just now"
    assert await swept(stale_s=-60) == 2
    assert await objects_of(fleet, left) == ["absent/00000001.jsonl"]
    assert len(await objects_of(fleet, needed)) == 3
    await fleet.scans.states.put(replace(needed, phase="cancelled"))
    assert await withdraw_when_due(fleet.services, fleet.scans.states, stale_s=-60) == 0, "within the hour"
    assert await swept(stale_s=-60) == 2
    assert await objects_of(fleet, needed) == ["absent/00000001.jsonl"]


async def test_a_scan_that_is_cancelled_takes_its_inventory_out_of_the_store(idle_fleet):
    fleet = idle_fleet
    state = await requested(fleet, "s", phase="compare", shards=4, collation="bytes")
    await fleet.services.redis.hset(f"ferryman:scan:{state.run}:shards", "unshared", 1)
    await fleet.scans.order("s", "cancel")
    assert await fleet.scans.coordinate("s")
    assert (await fleet.report("s"))["phase"] == "cancelled"
    assert await objects_of(fleet, state) == ["absent/00000001.jsonl"]
