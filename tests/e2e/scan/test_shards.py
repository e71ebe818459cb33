"""A scan that is cut: every key counted once, whatever dies, comes twice, or is split meanwhile."""

from __future__ import annotations

import pytest

from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import flaw
from support.scan.shards import found_in, put, shards_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


async def test_a_scan_of_a_manifest_counts_the_same_in_shards_as_in_one(bytes_fleet, bytes_store):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"d{n % 7}/{n:05}.txt" for n in range(4000)]
    put(store, keys[::2])
    one = await fleet.scan("one", [*keys, "tab\there", keys[0]], dry_run=True)
    cut = await fleet.scan("s", [*keys, "tab\there", keys[0]], dry_run=True, shards=8)
    assert cut["phase"] == "done", cut
    assert cut["total"] == one["total"]
    assert cut["prefixes"] == one["prefixes"]
    assert (cut["read"], cut["duplicates"], cut["extra"]) == (one["read"], one["duplicates"], one["extra"])
    state, shards = await shards_of(fleet)
    assert (state.shards, len(shards)) == (8, 8)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    assert min(found_in(one) for one in shards) > 300


async def test_two_buckets_are_compared_range_by_range_and_nobody_reads_one_whole(bytes_fleet, bytes_store):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n * 7919 % 10007:05}.txt" for n in range(6000)]
    put(store, keys)
    one = await fleet.scan("one", inventory={"bucket": "other"}, dry_run=True)
    cut = await fleet.scan("s", inventory={"bucket": "other"}, dry_run=True, shards=5)
    assert cut["phase"] == "done", cut
    assert (cut["total"], cut["read"]) == (one["total"], one["read"])
    assert cut["total"]["present"] == 6000
    state, shards = await shards_of(fleet)
    assert (len(shards), state.source_listed, state.inventory_file) == (5, True, "")
    found = [found_in(one) for one in shards]
    assert max(found) <= 2 * min(found), found


async def test_what_is_missing_is_moved_once_with_shards_in_processes_of_their_own(
    bytes_fleet, bytes_store, origin
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"k{n:04}" for n in range(1200)]
    origin.bodies.update(dict.fromkeys(keys, b"x"))
    put(store, keys[100:300])
    await fleet.start_worker()
    report = await fleet.scan("s", keys, compare=(), shards=6)
    total = report["total"]
    assert (total["found"], total["present"], total["stored"], total["pending"]) == (1200, 200, 1000, 0), (
        report
    )
    assert max(map(origin.asked.count, keys)) == 1
