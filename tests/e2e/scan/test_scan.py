"""Scans over the real queue, a real worker process and a real store."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from scheduler.scan.service import ScanService, scan_options
from support.installation import eventually
from workers.errors import StoreUnavailable
from workers.plan import Lane
from workers.store.model import ListPage

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ODD = [
    "a b.txt",
    "a+b.txt",
    "a%20b.txt",
    "a%2Bb.txt",
    "100%.txt",
    "q?1#2.txt",
    "中/é.txt",
    "e\u0301.txt",
    "d/.x/~y",
]


def balanced(row):
    parts = ("present", "stored", "absent", "differs", "excluded", "failed", "skipped", "pending")
    return row["found"] == sum(row[part] for part in parts)


async def test_everything_an_inventory_names_is_moved_and_the_account_is_exact(fleet):
    bodies = {key: f"body of {key}".encode() for key in [*ODD, *(f"img/{n:04}.txt" for n in range(300))]}
    fleet.origin.bodies.update(bodies)
    await fleet.put("img/0007.txt", b"a user's own")
    keys = [*bodies, "gone.txt", "img/0001.txt"]
    report = await fleet.scan("s", keys, compare=())
    total = report["total"]
    assert report["phase"] == "done", report
    assert total["found"] == len(bodies) + 1
    assert (total["stored"], total["present"], total["absent"], total["failed"]) == (len(bodies) - 1, 1, 1, 0)
    assert report["duplicates"] == 1
    assert balanced(total)
    assert all(balanced(row) for row in report["prefixes"].values())
    assert report["prefixes"]["img/"]["found"] == 300
    assert total["bytes"] == sum(len(body) for key, body in bodies.items() if key != "img/0007.txt")
    for key, body in bodies.items():
        assert await fleet.body(key) == (b"a user's own" if key == "img/0007.txt" else body), key
    again = await fleet.scan("s2", keys, compare=())
    assert again["total"]["present"] == len(bodies)
    assert again["extra"] == 0


async def test_p24_p33_one_bad_key_of_many_is_listed_and_only_it_is_retried(fleet):
    fleet.origin.bodies.update({f"{n}.txt": b"x" for n in range(200)})
    fleet.origin.bodies["bad//key.txt"] = b"y"  # SeaweedFS cannot hold it beside bad/key.txt
    report = await fleet.scan("s", [*(f"{n}.txt" for n in range(200)), "bad//key.txt"])
    assert (report["total"]["stored"], report["total"]["failed"], report["total"]["pending"]) == (200, 1, 0)
    assert balanced(report["total"])
    failure = await fleet.services.ledger.failures.get(fleet.bucket, "bad//key.txt")
    assert failure.reason == "key_not_representable"
    assert fleet.origin.asked.count("5.txt") == 1


async def test_p31_a_listing_that_fails_fails_the_scan_and_keeps_the_checkpoint(fleet, monkeypatch):
    fleet.origin.bodies.update({f"{n:04}.txt": b"x" for n in range(50)})
    real = fleet.services.store.list

    async def failing(bucket, prefix="", **more):
        yield ListPage(objects=(), continuation="next")
        msg = "LIST: 500"
        raise StoreUnavailable(msg, status=500)

    monkeypatch.setattr(type(fleet.services.store), "list", lambda self, *a, **k: failing(*a, **k))
    report = await fleet.scan("s", list(fleet.origin.bodies))
    assert (report["phase"], report["error"]) == ("failed", "LIST: 500")
    assert report["total"]["stored"] == 0
    monkeypatch.undo()
    assert fleet.services.store.list.__func__ is real.__func__
    report = await fleet.scan("s", list(fleet.origin.bodies))
    assert report["phase"] == "done"
    assert report["total"]["stored"] == 50


async def test_messages_delivered_twice_are_counted_once(idle_fleet):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:04}.txt": b"x" for n in range(150)})
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(fleet.origin.bodies)}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    running = asyncio.create_task(fleet.scans.coordinate("s"))

    async def sent():
        return (await fleet.services.queue.depth(Lane.COLD)).waiting == 2

    await eventually(sent, "both batches are queued")
    await fleet.services.queue.enqueue_many(await fleet.scans.states.window("s"))
    await fleet.start_worker()
    await running
    report = await fleet.report("s")
    assert report["total"]["stored"] == 150
    assert balanced(report["total"])


async def test_a_coordinator_that_dies_is_succeeded_without_losing_or_repeating_a_count(
    idle_fleet, monkeypatch
):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:05}.txt": b"x" for n in range(700)})
    keys = list(fleet.origin.bodies)
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 200)
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(keys)}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    # The first coordinator dies between its checkpoint and the queue.
    real = fleet.services.queue.enqueue_many
    calls = 0

    async def dying(batches, **more):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        await real(batches, **more)

    monkeypatch.setattr(type(fleet.services.queue), "enqueue_many", lambda self, *a, **k: dying(*a, **k))
    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        await fleet.scans.coordinate("s")
    monkeypatch.undo()
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 200)
    await fleet.start_worker()

    async def some_moved():
        return (await fleet.report("s"))["total"]["stored"] >= 100

    await eventually(some_moved, "the worker moves what was queued")
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    assert report["phase"] == "done"
    assert report["total"]["found"] == 700
    assert report["total"]["stored"] == 700
    assert balanced(report["total"])
    assert all(fleet.origin.asked.count(key) == 1 for key in keys), "a repeated batch asks nobody again"


async def test_two_coordinators_one_lease(idle_fleet):
    fleet = idle_fleet
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest([])}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    assert await fleet.scans.states.acquire("s", "somebody")
    assert not await fleet.scans.coordinate("s")
    await fleet.scans.states.release("s", "somebody")
    assert await fleet.scans.coordinate("s")


async def test_pause_resume_and_cancel_take_effect(idle_fleet):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:05}.txt": b"x" for n in range(300)})
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(fleet.origin.bodies)}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    state = await fleet.scans.states.get("s")
    await fleet.services.ledger.outcomes.stop_scan(state.run, "pause")
    await fleet.scans.states.order("s", "pause")
    running = asyncio.create_task(fleet.scans.coordinate("s"))

    async def paused():
        return (await fleet.report("s"))["paused"]

    await eventually(paused, "the coordinator obeys")
    assert fleet.origin.asked == []
    await fleet.start_worker()
    await fleet.scans.states.order("s", "resume")
    await running
    assert (await fleet.report("s"))["total"]["stored"] == 300
    fleet.origin.bodies["later.txt"] = b"y"
    given["inventory"] = {"manifest": fleet.manifest(fleet.origin.bodies)}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    await fleet.scans.states.order("s", "cancel")
    await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    assert report["phase"] == "cancelled"
    assert await fleet.body("later.txt") is None


async def test_users_objects_are_never_overwritten_and_tombstones_hold(fleet):
    fleet.origin.bodies.update({"mine.txt": b"origin", "dead.txt": b"origin", "new.txt": b"origin"})
    await fleet.put("mine.txt", b"a user's, longer")
    await fleet.services.ledger.claims.add_tombstones(fleet.bucket, ["dead.txt"], ttl_s=600, reason="deleted")
    keys = [f"mine.txt,{len(b'origin')}", "dead.txt,6", "new.txt,6"]
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\n" + "\n".join(keys) + "\n")
    report = await fleet.scan("s", inventory={"manifest": str(path)})
    assert (report["total"]["differs"], report["total"]["skipped"], report["total"]["stored"]) == (1, 1, 1)
    assert await fleet.body("mine.txt") == b"a user's, longer"
    assert await fleet.body("dead.txt") is None
    replaced = await fleet.scan("s", inventory={"manifest": str(path)}, replace=True)
    assert replaced["total"]["differs"] == 1, "an object without our tag is not replaced"
    assert await fleet.body("mine.txt") == b"a user's, longer"


async def test_s12_a_changed_object_of_ours_is_replaced_on_demand_only(fleet):
    """SEMANTICS.md S12."""
    fleet.origin.bodies["a.txt"] = b"old"
    await fleet.scan("s", ["a.txt"])
    fleet.origin.bodies["a.txt"] = b"newer"
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\na.txt,5\n")
    report = await fleet.scan("s2", inventory={"manifest": str(path)})
    assert (report["total"]["differs"], await fleet.body("a.txt")) == (1, b"old")
    report = await fleet.scan("s3", inventory={"manifest": str(path)}, replace=True)
    assert (report["total"]["stored"], await fleet.body("a.txt")) == (1, b"newer")
    assert balanced(report["total"])


async def test_a_dry_run_sends_nothing(idle_fleet):
    fleet = idle_fleet
    fleet.origin.bodies["a.txt"] = b"x"
    report = await fleet.scan("s", ["a.txt", "b.txt"], dry_run=True)
    assert (report["phase"], report["would_fetch"]) == ("done", 2)
    assert (await fleet.services.queue.depth(Lane.COLD)).waiting == 0


async def test_keys_that_cannot_be_asked_for_are_failures_with_a_reason(fleet):
    report = await fleet.scan("s", ["a/../b", "x" * 1025, "tab\there"])
    assert report["total"]["failed"] == 3
    assert balanced(report["total"])
    reasons = {
        failure.key: failure.reason async for failure in fleet.services.ledger.failures.iterate(fleet.bucket)
    }
    assert reasons == {"a/../b": "dot_segment", "x" * 1025: "key_too_long", "tab\there": "control_character"}


async def test_a_front_process_takes_up_scans_that_nobody_coordinates(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(["a.txt"])}}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    stop = asyncio.Event()
    serving = asyncio.create_task(ScanService(fleet.services).serve(stop))

    async def done():
        return (await fleet.report("s"))["phase"] == "done"

    await eventually(done, "a coordinator was found")
    stop.set()
    await serving
    assert await fleet.body("a.txt") == b"x"


async def test_a_scan_whose_record_cannot_be_read_is_said_and_taken_up_again(fleet, monkeypatch):
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(["absent.txt"])}}
    await fleet.scans.start("unread", scan_options(fleet.settings, "unread", given))
    service, stop = ScanService(fleet.services), asyncio.Event()
    get, failures = service.states.get, [ConnectionError("Redis is away")]

    async def failing_once(name):
        if failures:
            raise failures.pop()
        return await get(name)

    monkeypatch.setattr(service.states, "get", failing_once)

    async def done():
        return (await fleet.report("unread"))["phase"] == "done"

    with capture_logs() as logs:
        serving = asyncio.create_task(service.serve(stop))
        await eventually(done, "the scan was taken up again")
        stop.set()
        await serving
    told = [line for line in logs if line["event"] == "scan_not_coordinated"]
    assert [(line["scan"], "Redis is away" in line["error"]) for line in told] == [("unread", True)]
