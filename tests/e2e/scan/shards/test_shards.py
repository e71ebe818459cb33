"""A scan that is cut: every key counted once, whatever dies, comes twice, or is split meanwhile."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from scheduler.commands.scan_view import show
from scheduler.front.admin.metrics import take_over
from scheduler.scan.compare.ranges import open_inventory
from scheduler.scan.gate.finalize import _report
from scheduler.scan.gate.gate import look
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.ranges import flaw
from scheduler.scan.service import scan_options
from scheduler.scan.shards.records import ShardStates
from scheduler.scan.verify.verify import Verifier
from scheduler.status import collect
from support.installation import eventually
from support.scan.shards import found_in, put, records, shards_of
from workers.background import end
from workers.telemetry import metrics

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


async def test_a_verification_finds_the_same_in_ranges_as_in_one_and_says_how_it_looked(
    bytes_fleet, bytes_store
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n:05}" for n in range(3000)]
    fleet.origin.bodies.update(dict.fromkeys(keys[:10], b"x"))
    put(store, keys)
    for name, options in (("one", {}), ("s", {"shards": 6})):
        await fleet.scan(name, keys, dry_run=True, **options)
    put(store, keys[100:104], b"longer")
    for key in keys[:3]:
        del store.objects[key]
    put(store, ["zz-not-named"])
    found = {}
    for name, shards in (("one", None), ("s", None), ("one", 4)):
        state = await fleet.scans.states.get(name)
        report = await Verifier(fleet.services, state, sample=5, seed=1, shards=shards).run()
        looked_at = report.compared + report.counts.get("absent_at_origin", 0)
        counts = {what: n for what, n in report.counts.items() if what in {"missing", "size"}}
        found[name, shards] = (report.checked, counts, report.extra, report.extra_keys, looked_at)
        assert report.ranges == {("one", None): 1, ("s", None): 6, ("one", 4): 4}[name, shards]
    assert set(map(str, found.values())) == {str((3000, {"missing": 3}, 1, ("zz-not-named",), 5))}, found


async def test_buckets_that_were_compared_in_ranges_are_verified_by_listing_the_source_again(
    bytes_fleet, bytes_store
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n:05}" for n in range(2500)]
    put(store, keys)
    await fleet.scan("s", inventory={"bucket": "other"}, dry_run=True, shards=3)
    report = await Verifier(fleet.services, await fleet.scans.states.get("s")).run()
    assert (report.checked, report.ranges, report.clean) == (2500, 3, True), report


async def test_what_cannot_be_cut_runs_as_one_and_says_why(fleet):
    """SeaweedFS lists by path component."""
    await fleet.put("a.txt", b"x")
    report = await fleet.scan("s", ["a.txt", "b.txt"], shards=4, dry_run=True)
    shards = report["shards"]
    assert (report["phase"], shards["total"], shards["joined"]) == ("done", 1, True)
    assert shards["one_because"].startswith("the store lists by path component"), shards


async def test_a_limit_counts_in_the_order_of_keys_so_such_a_scan_runs_as_one(bytes_fleet, bytes_store):
    report = await bytes_fleet.scan("s", [f"{n}" for n in range(50)], shards=4, limit=7, dry_run=True)
    assert report["would_fetch"] == 7
    assert report["shards"]["one_because"] == "--limit counts over all keys in their order"


async def test_status_names_the_ranges_and_proves_that_they_join(bytes_fleet, bytes_store, capsys):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n:05}" for n in range(2500)]
    put(store, keys)
    report = await fleet.scan("s", keys, dry_run=True, shards=5)
    shards = report["shards"]
    assert (shards["total"], shards["done"], shards["running"], shards["waiting"]) == (5, 5, 0, 0)
    assert (shards["joined"], shards["flaw"], shards["slowest"]) == (True, "", None)
    bounds = [(one["begin"], one["end"]) for one in shards["ranges"]]
    assert (bounds[0][0], bounds[-1][1]) == ("", None)
    assert all(one[1] == other[0] for one, other in pairwise(bounds))
    assert sum(one["found"] for one in shards["ranges"]) == 2500
    show(report)
    assert "5 ranges join without gap or overlap: 5 done, 0 running, 0 waiting" in capsys.readouterr().out
    verdict = await look(fleet.services, await fleet.scans.states.get("s"), quiet_s=0)
    (proof,) = [one for one in verdict.conditions if one.name == "ranges_join"]
    assert (proof.ok, proof.evidence) == (True, "5 ranges join without gap or overlap; 5 are compared")


async def test_a_range_that_is_missing_shuts_the_gate_and_is_said_wherever_ranges_are_shown(
    bytes_fleet, bytes_store, capsys
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n:05}" for n in range(2500)]
    put(store, keys)
    report = await fleet.scan("s", keys, dry_run=True, shards=5)
    state, shards = await shards_of(fleet)
    verdict = await look(fleet.services, state, quiet_s=0)
    kept = await _report(fleet.services, state, verdict, now=0.0, who="me", keep_rule=False, override="")
    ranges = kept["ranges"]["ranges"]
    assert (kept["ranges"]["joined"], kept["ranges"]["proof"]) == (True, verdict_of(verdict).evidence)
    assert (ranges[0][0], ranges[-1][1], sum(found for *_, found in ranges)) == ("", None, 2500)
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    lost = shards[2]
    await fleet.services.redis.hdel(f"ferryman:scan:{state.run}:shard-records", lost.name)
    gap = f"a gap between {lost.shard.range.begin!r} and {lost.shard.range.end!r}"
    report = await fleet.report("s")
    assert (report["shards"]["joined"], report["shards"]["flaw"]) == (False, gap)
    show(report)
    assert f"4 ranges DO NOT JOIN: {gap}" in capsys.readouterr().out
    verdict = await look(fleet.services, state, quiet_s=0)
    assert not verdict_of(verdict).ok
    assert gap in verdict_of(verdict).evidence
    kept = await _report(fleet.services, state, verdict, now=0.0, who="me", keep_rule=False, override="")
    assert (kept["ranges"]["joined"], gap in kept["ranges"]["proof"]) == (False, True)


def verdict_of(verdict):
    (found,) = [one for one in verdict.conditions if one.name == "ranges_join"]
    return found


async def test_metrics_say_how_the_ranges_of_a_scan_stand_while_it_runs(
    bytes_fleet, bytes_store, monkeypatch
):
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_PAIRS", 300)
    fleet, store = bytes_fleet, bytes_store
    put(store, [f"{n:05}" for n in range(40_000)])
    given = {"bucket": fleet.bucket, "inventory": {"bucket": "other"}, "dry_run": True, "shards": 4}
    await fleet.scans.start("ranges", scan_options(fleet.settings, "ranges", given))
    store.takes_s["list"] = 1.0
    running = asyncio.create_task(fleet.scans.coordinate("ranges"))
    found = {}

    def numbers(text):
        found = re.findall(
            r'^ferryman_scan_(\w+)\{scan="ranges"(?:,state="(\w+)")?\} (\S+)$', text, re.MULTILINE
        )
        return {state or name: float(number) for name, state, number in found if name != "keys"}

    async def shown():
        take_over(await collect(fleet.services))
        found.update(numbers(metrics.render().decode()))
        return found.get("running", 0) >= 4 and found["eta_seconds"] > 0  # a large one may be halved by now

    try:
        await eventually(shown, "ranges that run, and when they will have ended")
        assert found["slowest_shard_seconds"] > 0
        store.takes_s.clear()
        assert await asyncio.wait_for(running, 60)
    finally:
        await end(running)
    take_over(await collect(fleet.services))
    found = numbers(metrics.render().decode())
    made = (await fleet.report("ranges"))["shards"]["total"]
    assert made >= 4  # what was large may have been halved
    assert (found["done"], found["running"], found["waiting"]) == (made, 0, 0)
    assert found["slowest_shard_seconds"] == 0


async def test_while_places_to_cut_at_are_searched_for_the_status_says_so(bytes_fleet, bytes_store):
    fleet = bytes_fleet
    put(bytes_store, [f"{n:05}" for n in range(3000)])
    given = {"bucket": fleet.bucket, "inventory": {"bucket": "other"}, "dry_run": True, "shards": 4}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    await fleet.services.store.guarantees(fleet.bucket)
    bytes_store.takes_s["list"] = 1.0
    running = asyncio.create_task(fleet.scans.coordinate("s"))

    async def searching():
        return (await fleet.report("s"))["phase"] == "inventory"

    try:
        await eventually(searching, "it is not merely requested", timeout_s=30)
        bytes_store.takes_s.clear()
        assert await asyncio.wait_for(running, 60)
    finally:
        await end(running)


async def test_ranges_and_keys_that_failed_are_told_with_where_to_look(bytes_fleet, bytes_store, capsys):
    fleet = bytes_fleet
    keys = [f"{n:05}" for n in range(2500)]
    put(bytes_store, keys)
    await fleet.scan("s", [*keys, "tab\there"], dry_run=True, shards=5)
    _, shards = await shards_of(fleet)
    state = await fleet.scans.states.get("s")
    lost = replace(shards[2], phase="failed", error="the disk is full")
    assert await records(fleet, state.run).put_held(lost, "")
    show(await fleet.report("s"))
    text = capsys.readouterr().out
    assert "5 ranges join without gap or overlap: 4 done, 0 running, 0 waiting, 1 failed" in text
    assert f"which failed, and why: ferryman failures list --bucket {fleet.bucket}" in text


async def test_a_process_that_does_not_see_the_inventory_gets_it_from_the_store(
    bytes_fleet, bytes_store, monkeypatch, tmp_path
):
    fleet, store = bytes_fleet, bytes_store
    keys = [f"{n:05}" for n in range(2500)]
    put(store, keys)
    real = open_inventory

    async def elsewhere(client, bucket, state):
        return await real(client, bucket, replace(state, inventory_file=str(tmp_path / "not-here.sorted")))

    monkeypatch.setattr("scheduler.scan.shards.range_run.open_inventory", elsewhere)
    report = await fleet.scan("s", keys, dry_run=True, shards=3)
    assert (report["phase"], report["total"]["present"], report["shards"]["total"]) == ("done", 2500, 3)
    assert [key for key in store.objects if "/sorted/" in key] == [], "nothing is left of it"


async def test_a_shard_is_split_at_its_checkpoint_and_nothing_is_counted_twice_or_left_out(
    bytes_fleet, bytes_store, monkeypatch
):
    fleet, store = bytes_fleet, bytes_store
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 200)
    monkeypatch.setattr("scheduler.scan.shards.range_run.LEAST_KEYS", 100)
    keys = [f"{n:05}" for n in range(3000)]
    put(store, keys[::3])
    options = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(keys)}, "shards": 2}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", {**options, "dry_run": True}))
    wishes = ShardStates.wishes

    async def always(self, numbers):
        for number in numbers:
            await self.want_split(number)
        return await wishes(self, numbers)

    monkeypatch.setattr(ShardStates, "wishes", always)
    cut = ShardStates.cut

    async def cut_and_ask(self, scan, token, shards):
        done = await cut(self, scan, token, shards)
        await self.want_split(0)
        return done

    monkeypatch.setattr(ShardStates, "cut", cut_and_ask)
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    total, shards = report["total"], report["shards"]
    assert (report["phase"], total["found"], total["present"]) == ("done", 3000, 1000), report
    assert report["would_fetch"] == 2000
    assert shards["total"] >= 3, "there are more ranges than at first"
    assert shards["joined"]
    assert max(one["generation"] for one in shards["ranges"]) >= 1
    assert sum(one["found"] for one in shards["ranges"]) == 3000
