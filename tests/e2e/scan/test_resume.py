"""What dies, is stopped or is overtaken in the middle of a scan: the account stays exact."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.config.run_settings import write_run_settings
from scheduler.dispatch.failures import retry
from scheduler.scan.run import Coordinator
from scheduler.scan.service import ScanService, UnknownScan, scan_options
from support.installation import eventually
from workers.errors import ConfigError
from workers.plan import Lane

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def balanced(row):
    parts = ("present", "stored", "absent", "differs", "excluded", "failed", "skipped", "pending")
    return row["found"] == sum(row[part] for part in parts)


async def started(fleet, name="s", **options):
    given = {"bucket": fleet.bucket, **options}
    if "inventory" not in given:
        given["inventory"] = {"manifest": fleet.manifest(fleet.origin.bodies)}
    return await fleet.scans.start(name, scan_options(fleet.settings, name, given))


async def test_an_inventory_file_that_is_gone_is_read_again_and_nothing_is_counted_twice(
    idle_fleet, monkeypatch
):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:05}.txt": b"x" for n in range(700)})
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 200)
    await started(
        fleet, inventory={"manifest": fleet.manifest([*fleet.origin.bodies, "tab\there", "00001.txt"])}
    )
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
    state = await fleet.scans.states.get("s")
    Path(state.inventory_file).unlink()
    await fleet.start_worker()
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    total = report["total"]
    assert (report["phase"], total["found"], total["stored"], total["failed"]) == ("done", 701, 700, 1), (
        report
    )
    assert (report["duplicates"], balanced(total)) == (1, True)
    assert max(map(fleet.origin.asked.count, fleet.origin.bodies)) == 1, "the queue had every batch once"


async def test_a_run_whose_messages_redis_forgot_ends_and_the_next_one_moves_its_keys(
    idle_fleet, monkeypatch
):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:02}.txt": b"x" for n in range(20)})
    monkeypatch.setattr("scheduler.scan.sending.LOST_AFTER_S", 0.2)
    await started(fleet)
    run = asyncio.create_task(fleet.scans.coordinate("s"))

    async def sent():
        return (await fleet.services.queue.depth(Lane.COLD)).waiting == 1

    await eventually(sent, "the batch was sent")
    queue = f"{fleet.settings.broker.namespace}:{Lane.COLD}"
    await fleet.services.queue._redis.delete(queue, f"{queue}.msgs")
    assert await run
    report = await fleet.report("s")
    assert (report["phase"], report["begins_anew"], balanced(report["total"])) == ("failed", True, True), (
        report
    )
    assert "20 keys are pending, and no message of the queue has them" in report["error"]
    await started(fleet)
    await fleet.start_worker()
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    assert (report["phase"], report["total"]["stored"], report["total"]["pending"]) == ("done", 20, 0), report


async def test_a_coordinator_that_was_overtaken_writes_nothing_any_more(idle_fleet):
    fleet = idle_fleet
    await started(fleet)
    states, state = fleet.scans.states, await fleet.scans.states.get("s")
    assert await states.acquire("s", "new")
    assert not await states.put_held(replace(state, read=7), "old")
    assert not await states.checkpoint(replace(state, read=7), [], "old")
    assert not await states.put_held(replace(state, read=7), ""), "a scan with a coordinator is its own"
    assert await states.get("s") == state
    assert await states.put_held(replace(state, read=7), "new")


async def test_an_order_is_for_its_run_and_ended_scans_take_none(idle_fleet):
    fleet = idle_fleet
    with pytest.raises(UnknownScan):
        await fleet.scans.order("s", "pause")
    await started(fleet)
    assert await fleet.scans.coordinate("s")
    with pytest.raises(ConfigError, match="is done"):
        await fleet.scans.order("s", "pause")
    await fleet.scans.states.order("s", "cancel")  # came as the run ended
    await started(fleet)
    assert await fleet.scans.coordinate("s")
    assert (await fleet.report("s"))["phase"] == "done"


async def test_too_many_failures_stop_the_scan_while_it_compares_and_the_queue_with_it(
    idle_fleet, monkeypatch
):
    fleet = idle_fleet
    bad = [f"a/{n:03}//x.txt" for n in range(5)]  # SeaweedFS cannot hold them
    good = [f"b/{n:04}.txt" for n in range(1500)]
    fleet.origin.bodies.update(dict.fromkeys([*bad, *good], b"x"))
    monkeypatch.setattr("scheduler.scan.sending.COLD_DEPTH", 3)
    await fleet.start_worker()
    await started(fleet, stop_after_failures=5)
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    assert (report["phase"], report["total"]["failed"]) == ("failed", 5), report
    assert "the limit is 5" in report["error"]
    assert f"ferryman failures retry --bucket {fleet.bucket}, then ferryman scan resume s" in report["error"]
    assert balanced(report["total"])
    assert await fleet.services.ledger.outcomes.scan_stop(report["run"]) == "pause"
    # It is taken up again with as many failures to come; those that are listed hold nothing up.
    await fleet.scans.order("s", "resume")
    assert await fleet.scans.coordinate("s")
    report = await fleet.report("s")
    assert (report["phase"], report["error"]) == ("done", ""), report
    total = report["total"]
    assert (total["failed"], total["stored"], total["pending"], balanced(total)) == (5, 1500, 0, True)


async def test_a_failed_scan_can_be_given_up_and_leaves_nothing_in_the_queue(fleet):
    fleet.origin.bodies.update({f"a/{number}//x": b"x" for number in range(3)})
    fleet.origin.bodies.update({f"b/{number:03}": b"x" for number in range(400)})
    _, go_on = fleet.origin.gate("b/000")
    await started(fleet, stop_after_failures=2)
    assert await fleet.scans.coordinate("s")
    assert (await fleet.report("s"))["phase"] == "failed"
    await fleet.scans.order("s", "cancel")
    go_on.set()

    async def empty():
        depth = await fleet.services.queue.depth(Lane.COLD)
        return depth.waiting + depth.running + depth.delayed == 0

    await eventually(empty, "workers drop what was queued")
    report = await fleet.report("s")
    assert report["phase"] == "cancelled"
    with pytest.raises(ConfigError, match="for a new run: ferryman scan start s"):
        await fleet.scans.order("s", "resume")


async def test_a_retried_failure_keeps_its_place_and_the_account_ends_balanced(fleet):
    fleet.origin.bodies.update({f"{n}.txt": b"x" for n in range(150)})
    fleet.origin.bodies["a//b.txt"] = b"y"
    await fleet.scan("s", list(fleet.origin.bodies))
    failures = [one async for one in fleet.services.ledger.failures.iterate(fleet.bucket)]
    assert [(one.key, one.scan != "", one.batch >= 0) for one in failures] == [("a//b.txt", True, True)]
    del fleet.origin.bodies["a//b.txt"]  # this time nobody has it
    assert (await retry(fleet.services, failures)).retried == 1

    async def settled():
        return (await fleet.report("s"))["total"]["absent"] == 1

    await eventually(settled, "the retry is counted at the failure's place")
    total = (await fleet.report("s"))["total"]
    assert (total["stored"], total["failed"], total["pending"], balanced(total)) == (150, 0, 0, True)


@pytest.mark.parametrize(("dry_run", "limit"), [(True, 70), (False, 70), (False, 300)])
async def test_a_limit_is_exact_and_the_account_balances(fleet, dry_run, limit):
    fleet.origin.bodies.update({f"{n:04}.txt": b"x" for n in range(300)})
    await fleet.put("0007.txt", b"a user's")
    report = await fleet.scan("s", list(fleet.origin.bodies), compare=(), dry_run=dry_run, limit=limit)
    wanted = min(limit, 299)
    assert report["phase"] == "done"
    assert report["would_fetch"] == wanted
    assert report["total"]["pending" if dry_run else "stored"] == wanted
    assert balanced(report["total"])


async def test_keys_are_sent_only_in_the_hours_that_were_given(idle_fleet):
    fleet = idle_fleet
    fleet.origin.bodies["a.txt"] = b"x"
    state = await started(fleet, windows=["22:00-06:00"])
    moment = dt.datetime(2026, 1, 5, 12, 0, tzinfo=dt.UTC)
    coordinator = Coordinator(
        fleet.services, fleet.scans.states, state, directory=fleet.tmp_path, local_time=lambda: moment
    )
    running = asyncio.create_task(coordinator.run())

    async def waiting():
        return "22:00" in (await fleet.report("s"))["waiting"]

    await eventually(waiting, "the scan says what it waits for")
    assert (await fleet.services.queue.depth(Lane.COLD)).waiting == 0
    moment = moment.replace(hour=23)
    await fleet.start_worker()
    await running
    report = await fleet.report("s")
    assert (report["waiting"], report["total"]["stored"]) == ("", 1)
    with pytest.raises(ConfigError, match="windows"):
        scan_options(
            fleet.settings, "s", {"bucket": fleet.bucket, "inventory": {}, "windows": ["25:00-26:00"]}
        )


async def test_our_own_prefix_is_never_asked_for(fleet):
    report = await fleet.scan("s", [".ferryman/reports/x.json"])
    assert report["total"]["failed"] == 1
    failure = await fleet.services.ledger.failures.get(fleet.bucket, ".ferryman/reports/x.json")
    assert failure.reason == "reserved_key"
    assert fleet.origin.asked == []


async def test_a_store_without_an_order_is_compared_all_the_same(fleet):
    guarantees = await fleet.services.store.guarantees(fleet.bucket)
    fleet.services.store.assume(fleet.bucket, replace(guarantees, collation="none"))
    fleet.origin.bodies.update(dict.fromkeys(["k/a/1", "k/a-1", "k/b"], b"x"))
    await fleet.put("k/a-1", b"a user's")
    report = await fleet.scan("s", list(fleet.origin.bodies), compare=())
    assert (report["total"]["present"], report["total"]["stored"], report["extra"]) == (1, 2, 0)


@pytest.mark.slow
async def test_p43_kill_9_of_the_coordinator_and_of_a_worker_leaves_the_account_exact(
    idle_fleet,
):
    fleet = idle_fleet
    fleet.origin.bodies.update({f"d{n % 3}/{n:05}.txt": b"x" for n in range(6000)})
    settings = fleet.settings.model_copy(
        update={"broker": fleet.settings.broker.model_copy(update={"heartbeat_timeout_s": 5})}
    )
    config = write_run_settings(settings, "test")
    command = [
        sys.executable, "-P", "-m", "scheduler.cli", "scan", "start", "s", "--config", str(config),
        "--bucket", fleet.bucket, "--manifest", fleet.manifest(fleet.origin.bodies), "--wait", "--json",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}
    await fleet.start_worker()

    async def stored(number):
        state = await fleet.scans.states.get("s")
        return state is not None and (await fleet.report("s"))["total"]["stored"] >= number

    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)  # noqa: ASYNC220  # waited for in a thread
    await eventually(lambda: stored(500), "the scan is under way")
    first.kill()
    first.communicate()
    assert (await fleet.report("s"))["phase"] in {"compare", "move"}
    second = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)  # noqa: ASYNC220  # waited for in a thread
    await eventually(lambda: stored(3000), "another coordinator goes on")
    (master,) = fleet.supervisor.pids().values()
    for pid in children_of(master):
        os.kill(pid, signal.SIGKILL)
    out, _ = await asyncio.to_thread(second.communicate)
    report = await fleet.report("s")
    assert second.returncode == 0, out
    total = report["total"]
    assert (total["found"], total["stored"] + total["present"]) == (6000, 6000), total
    assert (total["failed"], total["pending"], balanced(total)) == (0, 0, True)
    assert set(fleet.origin.asked) == set(fleet.origin.bodies)
    # Only what was under way in the worker that was killed is asked for again.
    asked = Counter(fleet.origin.asked)
    again = [key for key, times in asked.items() if times > 1]
    assert max(asked.values()) <= 2
    assert len(again) <= settings.limits.item_concurrency


def children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


async def test_a_scan_service_that_ends_gives_its_scans_to_another(idle_fleet):
    fleet = idle_fleet
    fleet.origin.bodies["a.txt"] = b"x"
    await started(fleet)
    stop = asyncio.Event()
    serving = asyncio.create_task(ScanService(fleet.services).serve(stop))

    async def moving():
        return (await fleet.report("s"))["phase"] == "move"

    await eventually(moving, "the first service coordinates")
    stop.set()
    await serving
    await fleet.start_worker()
    assert await fleet.scans.coordinate("s"), "the lease is free at once"
    assert (await fleet.report("s"))["total"]["stored"] == 1


async def test_a_scan_that_waits_for_its_rate_obeys_at_once(idle_fleet):
    """The next batch would be sent in hours."""
    fleet = idle_fleet
    fleet.origin.bodies.update({f"{n:02}.txt": b"x" for n in range(40)})
    await started(fleet, rate=0.001)
    running = asyncio.create_task(fleet.scans.coordinate("s"))

    async def sent():
        return (await fleet.services.queue.depth(Lane.COLD)).waiting == 1

    await eventually(sent, "its batch is sent")
    for order, standing in (("pause", "paused"), ("resume", "going on")):
        await fleet.scans.order("s", order)

        async def obeyed(standing=standing):
            return (await fleet.scans.states.get("s")).paused == (standing == "paused")

        await eventually(obeyed, standing, timeout_s=20)
    await fleet.scans.order("s", "cancel")
    async with asyncio.timeout(20):
        await running
    assert (await fleet.report("s"))["phase"] == "cancelled"
