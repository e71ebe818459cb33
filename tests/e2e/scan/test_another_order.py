"""What a scan wrote under one judged listing order, read under another; and listings in no order at all."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.machine.startup import make_ready
from scheduler.runtime import open_services
from scheduler.scan.gate.gate import look
from scheduler.scan.service import ScanService, scan_options
from scheduler.scan.verify.verify import Verifier
from workers.errors import ConfigError

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

#: Under SeaweedFS's order `slow/…` comes before `slow-…`, by bytes behind it.
KEYS = [f"{where}/n{number:04}" for where in ("fast", "slow", "slow-er") for number in range(100)]


@contextlib.asynccontextmanager
async def restarted(fleet, *, collation=None, **store):
    """The installation after a restart with other settings of the store, or another judged order."""
    record = fleet.settings.model_dump()
    record["store"] |= store
    settings = type(fleet.settings).model_validate(record)
    async with open_services(settings) as services:
        await make_ready(services, who="test")
        if collation is not None:
            found = await services.store.guarantees(fleet.bucket)
            services.store.assume(fleet.bucket, replace(found, collation=collation))
        yield services


async def verified(services, name="site", **options):
    state = await ScanService(services).states.get(name)
    return await Verifier(services, state, seed=1, **options).run()


def asked(fleet):
    return {key for key in fleet.origin.asked if "\x01" in key or "%01" in key}


async def test_verify_after_another_order_was_judged_reads_the_file_in_its_own_and_finds_what_is_gone(fleet):
    fleet.origin.bodies.update({key: key.encode() for key in KEYS})
    report = await fleet.scan("site", KEYS)
    assert report["total"]["stored"] == len(KEYS)
    async with restarted(fleet, collation="none") as services:
        assert (await services.store.guarantees(fleet.bucket)).collation == "none"
        report = await verified(services, sample=50)
        assert (report.clean, report.counts, report.checked, report.compared) == (True, {}, 300, 50)
        for key in KEYS[150:200]:
            await services.store.delete(fleet.bucket, key)
        report = await verified(services, sample=50)
        assert (report.clean, report.counts) == (False, {"missing": 50})
        assert {one.key for one in report.problems} == set(KEYS[150:200])
    assert not asked(fleet), "a key that cannot exist never leaves the process"


async def test_what_the_configuration_says_of_create_only_changes_no_judgement_of_keys_and_order(idle_fleet):
    found = await idle_fleet.services.store.guarantees(idle_fleet.bucket)
    async with restarted(idle_fleet, create_only="check-then-write") as services:
        said = await services.store.guarantees(idle_fleet.bucket)
        assert (said.create_only, said.proven) == ("check-then-write", False)
        assert (said.collation, said.unrepresentable) == (found.collation, found.unrepresentable)


async def test_a_scan_that_goes_on_under_another_judged_order_keeps_its_own(idle_fleet, monkeypatch):
    fleet = idle_fleet
    fleet.origin.bodies.update({key: key.encode() for key in KEYS})
    for key in KEYS[::3]:
        await fleet.put(key, key.encode())
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 60)
    given = {"bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(KEYS)}}
    await fleet.scans.start("site", scan_options(fleet.settings, "site", given))
    calls = 0

    async def dying(self, batches):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        await real(self, batches)

    real = type(fleet.services.queue).enqueue_many
    monkeypatch.setattr(type(fleet.services.queue), "enqueue_many", dying)
    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        await fleet.scans.coordinate("site")
    monkeypatch.undo()
    await fleet.start_worker()
    async with restarted(fleet, collation="none") as services:
        assert await ScanService(services).coordinate("site")
        state = await ScanService(services).states.get("site")
        report = await ScanService(services).report(state)
        total = report["total"]
        assert (report["phase"], total["present"], total["stored"], total["absent"]) == ("done", 100, 200, 0)
        assert (await verified(services, full=True)).compared == len(KEYS)
    assert not asked(fleet)
    assert Path(state.inventory_file).is_file()


async def judged(fleet, collation):
    """What the self-test found, but for the order of listings."""
    found = await fleet.services.store.guarantees(fleet.bucket)
    fleet.services.store.assume(fleet.bucket, replace(found, collation=collation))


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_listing_in_another_order_than_judged_is_sorted_here_by_itself(fleet, monkeypatch, dry_run):
    fleet.origin.bodies.update({key: key.encode() for key in KEYS})
    for key in KEYS[::3]:
        await fleet.put(key, key.encode())
    await judged(fleet, "bytes")
    # Windows end before the listing shows that it is in another order.
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_PAIRS", 20)
    report = await fleet.scan("site", KEYS, dry_run=dry_run)
    total = report["total"]
    assert (report["phase"], report["error"], total["found"], total["absent"]) == ("done", "", 300, 0)
    assert total["present"] == 100
    assert total["pending" if dry_run else "stored"] == 200
    assert report["extra"] == 0
    if not dry_run:
        report = await verified(fleet.services, sample=20)
        assert (report.clean, report.checked, report.extra) == (True, 300, 0)


async def test_a_damaged_or_old_inventory_file_is_read_anew_by_a_scan_and_refused_by_verify(fleet):
    fleet.origin.bodies.update({key: key.encode() for key in KEYS[:10]})
    await fleet.scan("site", KEYS[:10])
    state = await fleet.scans.states.get("site")
    path = Path(state.inventory_file)
    header, _, lines = path.read_bytes().partition(b"\n")
    at_a_line = lines[: lines[:-1].rindex(b"\n") + 1]
    whole = header + b"\n"
    newer = header.replace(b'"format":1', b'"format":9') + b"\n"
    for damaged in (lines, newer + lines, whole + at_a_line, whole + lines[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="scan again from here"):
            await verified(fleet.services)
    unfinished = replace(state.checkpoint, key="", compared=False)
    await fleet.scans.states.put(
        replace(state, phase="failed", checkpoint=unfinished, groups=state.inventory_groups)
    )
    await fleet.scans.order("site", "resume")
    assert await fleet.scans.coordinate("site")
    report = await fleet.report("site")
    assert (report["phase"], report["total"]["present"]) == ("done", 10), report
    assert (await verified(fleet.services)).clean


async def test_an_inventory_that_changed_while_its_file_was_gone_is_no_longer_counted_with(fleet):
    fleet.origin.bodies.update({key: key.encode() for key in KEYS[:10]})
    await fleet.scan("site", KEYS[:10])
    state = await fleet.scans.states.get("site")
    unfinished = replace(state, phase="failed", checkpoint=replace(state.checkpoint, compared=False))
    await fleet.scans.states.put(unfinished)
    Path(state.inventory_file).unlink()
    fleet.manifest(KEYS[:9])
    await fleet.scans.order("site", "resume")
    assert await fleet.scans.coordinate("site")
    report = await fleet.report("site")
    assert report["phase"] == "failed"
    assert "is not what it was" in report["error"]
    with pytest.raises(ConfigError, match="begin anew: ferryman scan start site"):
        await fleet.scans.order("site", "resume")
    # The same command begins anew instead of failing for ever.
    report = await fleet.scan("site", KEYS[:9])
    assert (report["phase"], report["total"]["found"], report["run"] == state.run) == ("done", 9, False)


async def test_what_was_counted_of_one_store_is_not_gone_on_with_on_another(fleet):
    fleet.origin.bodies.update({key: key.encode() for key in KEYS[:10]})
    await fleet.scan("site", KEYS[:10])
    state = await fleet.scans.states.get("site")
    await verified(fleet.services)
    moved = replace(state, store="https://s3.elsewhere.example")
    await fleet.scans.states.put(moved)
    with pytest.raises(ConfigError, match=r"was run on the store https://s3\.elsewhere\.example"):
        await verified(fleet.services)
    verdict = await look(fleet.services, moved, quiet_s=1)
    shut = {one.name: one.evidence for one in verdict.conditions if not one.ok}
    assert "scanned on the store https://s3.elsewhere.example" in shut["scan_complete"]
    assert "of another store" in shut["verify_clean"]
    unfinished = replace(moved, phase="failed", checkpoint=replace(state.checkpoint, compared=False))
    await fleet.scans.states.put(unfinished)
    with pytest.raises(ConfigError, match="it was begun on the store"):
        await fleet.scans.order("site", "resume")
