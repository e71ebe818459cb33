"""`ferryman scan keys`: the keys behind each count, each as often as it is counted, whatever died."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter

import pytest
from click.testing import CliRunner

from scheduler.commands.scan import command
from scheduler.config.run_settings import write_run_settings
from scheduler.scan.names import FINDINGS, TERMS, Names, first
from scheduler.scan.service import scan_options
from scheduler.scan.verify.verify import Verifier
from support.installation import descendants, eventually
from workers.ledger.names import ScanNames

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

NAMED = ("absent", "differs", "excluded", "skipped", "failed")


async def names_of(fleet, name="s", terms=TERMS):
    """The named keys by their term, as a list, so that one that is there twice shows."""
    found = Names(fleet.services, await fleet.scans.states.get(name))
    rows = [one async for one in found.read(terms)]
    return {term: sorted(one.key for one in rows if one.term == term) for term in terms}


def counted(report):
    return {term: report["total"][term] for term in NAMED}


async def test_every_term_names_its_keys_and_none_twice(fleet):
    fleet.origin.bodies.update({"s/1": b"stored", "d/1": b"long", "x/1": b"left out", "p/1": b"here"})
    await fleet.put("d/1", b"other, by hand")
    await fleet.put("p/1", b"here")
    await fleet.services.ledger.claims.add_tombstones(fleet.bucket, ["t/1"], ttl_s=600, reason="deleted")
    path = fleet.tmp_path / "sizes.csv"
    rows = [
        "s/1,6",
        "d/1,4",
        "x/1,8",
        "p/1,4",
        "a/1,1",
        "a/ü\u20282,1",
        "t/1,5",
        '"x/odd\x01",1',
        '"tab\there",1',
    ]
    path.write_text("key,size\n" + "".join(f"{row}\n" for row in rows))
    report = await fleet.scan("s", inventory={"manifest": str(path)}, exclude=["^x/"])
    found = await names_of(fleet)
    assert found == {
        "absent": ["a/1", "a/ü\u20282"],
        "differs": ["d/1"],
        "excluded": ["x/1", "x/odd\x01"],
        "skipped": ["t/1"],
        "failed": ["tab\there"],
        "unread": [],
    }
    assert {term: len(found[term]) for term in NAMED} == counted(report)
    names = Names(fleet.services, await fleet.scans.states.get("s"))
    reasons = {one.key: one.reason async for one in names.read() if one.reason}
    assert reasons == {"d/1": "size", "t/1": "tombstone", "tab\there": "control_character"}
    # Nothing of it stays in Redis once the scan is over, and none of it is a key of the bucket.
    blocks, lines = await ScanNames(fleet.services.redis, namespace="ferryman").left(report["run"])
    assert (blocks.gone, lines) == (blocks.closed, [])
    assert (await fleet.scan("again", list(fleet.origin.bodies)))["extra"] == 0


async def test_names_that_nobody_has_put_away_yet_are_read_where_they_are(idle_fleet, monkeypatch):
    fleet = idle_fleet
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 50)
    monkeypatch.setattr("scheduler.scan.names.BLOCK_LINES", 70)
    await fleet.put("d/0001", b"differs")
    keys = [f"d/{n:04}" for n in range(300)]
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\n" + "".join(f"{key},1\n" for key in keys))
    options = {"bucket": fleet.bucket, "inventory": {"manifest": str(path)}, "exclude": ["[02468]$"]}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", options))
    running = asyncio.create_task(fleet.scans.coordinate("s"))

    async def compared():
        state = await fleet.scans.states.get("s")
        return state.checkpoint is not None and state.checkpoint.compared

    await eventually(compared, "all is compared")
    found = await names_of(fleet)
    assert found["excluded"] == [key for key in keys if key[-1] in "02468"]
    assert found["differs"] == ["d/0001"]
    names = Names(fleet.services, await fleet.scans.states.get("s"))
    assert len([one async for one in first(names.read(["excluded"]), 7)]) == 7
    running.cancel()
    await asyncio.wait({running})


async def test_killed_workers_and_coordinators_name_no_key_twice_and_forget_none(idle_fleet, monkeypatch):
    """Every key of the account's terms, once, while whoever names them dies again and again."""
    fleet = idle_fleet
    await fleet.start_worker()
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 100)
    monkeypatch.setattr("scheduler.scan.names.BLOCK_LINES", 60)
    keys = [f"k/{n:04}" for n in range(1500)]
    fleet.origin.bodies.update(dict.fromkeys(keys[::3], b"x"))
    options = {
        "bucket": fleet.bucket,
        "inventory": {"manifest": fleet.manifest(keys)},
        "exclude": ["[49]$"],
        "max_absent": 1.0,
    }
    await fleet.scans.start("s", scan_options(fleet.settings, "s", options))
    died = Counter()
    while (await fleet.report("s"))["phase"] not in {"done", "failed"}:
        running = asyncio.create_task(fleet.scans.coordinate("s"))
        done, _ = await asyncio.wait({running}, timeout=1.0)
        if done or sum(died.values()) > 8:
            await running
            continue
        running.cancel()
        await asyncio.wait({running})
        died["coordinators"] += 1
        (master,) = fleet.supervisor.pids().values()
        workers = [pid for pid, line in descendants(master).items() if "--queues cold" in line]
        if workers and died["workers"] < 3:
            os.kill(workers[-1], signal.SIGKILL)
            died["workers"] += 1
    report = await fleet.report("s")
    assert report["phase"] == "done"
    assert died["coordinators"] >= 1
    assert died["workers"] >= 1
    found = await names_of(fleet)
    wanted = [key for key in keys if key[-1] not in "49"]
    assert found["excluded"] == [key for key in keys if key[-1] in "49"]
    assert found["absent"] == [key for key in wanted if key not in fleet.origin.bodies]
    assert {term: len(found[term]) for term in NAMED} == counted(report)


async def test_a_store_that_takes_no_names_loses_none(fleet, monkeypatch):
    from workers.errors import StoreUnavailable

    keys = [f"a/{n:03}" for n in range(30)]

    async def refuses(*_, **__):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(fleet.services.store), "put_small", refuses)
        report = await fleet.scan("s", keys, max_absent=1.0)
    assert (report["phase"], report["total"]["absent"]) == ("done", 30)
    assert (await names_of(fleet))["absent"] == keys
    state = await fleet.scans.states.get("s")
    assert await Names(fleet.services, state).put_away(least=1) == 0
    assert (await names_of(fleet))["absent"] == keys


async def test_a_new_run_forgets_the_names_of_the_one_before_and_of_no_other_scan(fleet):
    await fleet.scan("s", ["a/1"], max_absent=1.0)
    await fleet.scan("s-2", ["a/2"], max_absent=1.0)
    await fleet.scan("s", ["a/3"], max_absent=1.0)
    assert (await names_of(fleet))["absent"] == ["a/3"]
    assert (await names_of(fleet, "s-2"))["absent"] == ["a/2"]
    pages = fleet.services.store.list(fleet.bucket, ".ferryman/scans/")
    places = [one.key async for page in pages for one in page.objects]
    runs = {(await fleet.report(name))["run"] for name in ("s", "s-2")}
    assert {place.split("/")[2] for place in places} == runs


async def test_what_a_listing_of_another_order_made_of_the_names_is_taken_back(fleet, monkeypatch):
    """The counts of such a pass are, too."""
    from scheduler.scan.compare.merge import OutOfOrder
    from scheduler.scan.run import Coordinator

    await fleet.put("d/1", b"differs")
    path = fleet.tmp_path / "sizes.csv"
    path.write_text('key,size\nd/1,1\nx/1,1\n"x/odd\x01",1\n')
    real = Coordinator._compare_in_one_go
    passes = []

    async def once(self):
        passes.append(self)
        await real(self)
        if len(passes) == 1:
            raise OutOfOrder("listing", "b", "a")

    monkeypatch.setattr(Coordinator, "_compare_in_one_go", once)
    report = await fleet.scan("s", inventory={"manifest": str(path)}, exclude=["^x/"])
    assert len(passes) == 2
    found = await names_of(fleet)
    assert (found["differs"], found["excluded"]) == (["d/1"], ["x/1", "x/odd\x01"])
    assert counted(report) | {"differs": 1, "excluded": 2} == counted(report)


async def test_findings_of_a_verification_are_all_named_and_the_next_one_replaces_them(fleet, monkeypatch):
    monkeypatch.setattr("scheduler.scan.names.BLOCK_LINES", 40)
    monkeypatch.setattr("scheduler.scan.verify.one_range.MAX_FINDINGS", 10)
    keys = [f"k/{n:03}" for n in range(100)]
    fleet.origin.bodies.update(dict.fromkeys(keys, b"x"))
    await fleet.scan("s", keys)
    for key in keys[:60]:
        await fleet.services.store.delete(fleet.bucket, key)
    state = await fleet.scans.states.get("s")
    report = await Verifier(fleet.services, state).run()
    assert (report.counts, len(report.problems)) == ({"missing": 60}, 10)
    assert (await names_of(fleet, terms=FINDINGS))["missing"] == keys[:60]
    for key in keys[:55]:
        await fleet.put(key, b"x")
    await Verifier(fleet.services, state).run()
    assert (await names_of(fleet, terms=FINDINGS))["missing"] == keys[55:60]


async def test_the_command_names_them_in_three_forms(fleet):
    fleet.origin.bodies["s/1"] = b"stored"
    await fleet.scan("s", ["s/1", "a/1\x07", "a/2"], max_absent=1.0)
    settings = write_run_settings(fleet.settings, "test")

    def run(*arguments):
        return CliRunner().invoke(command, ["keys", "s", "--config", str(settings), *arguments])

    def call(*arguments):
        return asyncio.to_thread(run, *arguments)

    text = await call("--absent")
    assert (text.exit_code, text.stdout) == (0, "absent    a/2\n")
    both = await call()
    assert both.stdout.splitlines() == ["absent    a/2", r"failed    a/1\x07  (control_character)"]
    assert (await call("--absent", "--failed")).stdout == both.stdout
    combined = await call("--combined")
    assert combined.stdout.splitlines() == ["- a/2", r"! a/1\x07"]
    rows = [json.loads(line) for line in (await call("--json")).stdout.splitlines()]
    assert rows == [
        {"term": "absent", "key": "a/2", "reason": ""},
        {"term": "failed", "key": "a/1\x07", "reason": "control_character"},
    ]
    file = fleet.tmp_path / "absent.txt"
    assert (await call("--absent", "-o", str(file))).exit_code == 0
    assert file.read_text() == "absent    a/2\n"
    none = await call("--skipped")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "there are none" in none.stderr
    unverified = await call("--findings")
    assert unverified.exit_code == 2
    assert "ferryman verify s" in unverified.stderr
    unknown = await asyncio.to_thread(
        CliRunner().invoke, command, ["keys", "nope", "--config", str(settings)]
    )
    assert unknown.exit_code == 2
    assert "no scan 'nope'" in unknown.stderr
