"""How far a scan is."""

from __future__ import annotations

from dataclasses import replace

from scheduler.scan.progress import progress_of
from scheduler.scan.record.account import Account
from scheduler.scan.record.state import ScanOptions, ScanState

OPTIONS = ScanOptions(bucket="b", inventory={"manifest": "m"})


def state(**more):
    return ScanState(name="s", run="s-1", **{"options": OPTIONS, "phase": "move", "active_s": 10.0, **more})


def test_rates_are_over_the_seconds_of_work_whatever_the_clock_says():
    scan = state(read=1100, duplicates=100, inventory_complete=True, started_at=9e9, finished_at=1.0)
    found = progress_of(scan, Account(found=600, stored=500, pending=100, bytes=5000))
    assert (found.settled, found.expected) == (500, 1000)
    assert (found.objects_per_s, found.bytes_per_s, found.eta_s) == (50.0, 500.0, 10.0)


def test_nobody_knows_how_long_it_takes_before_the_inventory_is_read_and_after_the_end():
    account = Account(found=5, stored=5)
    assert progress_of(state(read=5), account).eta_s is None
    assert progress_of(state(inventory_complete=True, phase="done"), account).eta_s is None
    assert progress_of(state(active_s=0.0), account).objects_per_s == 0.0


def test_a_dry_run_is_at_its_end_when_all_is_compared_whatever_it_would_fetch():
    scan = state(read=1000, inventory_complete=True, options=replace(OPTIONS, dry_run=True))
    found = progress_of(scan, Account(found=600, present=100, pending=500))
    assert (found.settled, found.objects_per_s, found.eta_s) == (600, 60.0, 6.7)
    ended = progress_of(replace(scan, phase="done"), Account(found=1000, present=400, pending=600))
    assert (ended.settled, ended.expected) == (1000, 1000)


def test_a_scan_that_is_paused_or_waits_for_its_hours_has_no_end_in_sight():
    account = Account(found=10, stored=5, pending=5)
    assert progress_of(state(inventory_complete=True), account).eta_s == 10.0
    assert progress_of(state(inventory_complete=True, paused=True), account).eta_s is None
    assert progress_of(state(inventory_complete=True, waiting="the window"), account).eta_s is None
