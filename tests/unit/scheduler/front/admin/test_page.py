"""The page: each number in the unit of its name, what is wrong first, nothing from outside unescaped."""

from __future__ import annotations

import re

import pytest

from scheduler.config.quantity import label, quantity
from scheduler.front.admin.page import plain, render
from scheduler.scan.progress import Progress
from scheduler.scan.state import Account
from scheduler.status import ConsumerStatus, QueueStatus, RuleStatus, ScanStatus, Status
from workers.origin.control.health import State
from workers.origin.control.overview import OriginOverview


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("bytes", 1_795_238_532, "1.8_GB"),
        ("bytes_per_s", 2_500_000_000.5, "2.5_GB/s"),
        ("lag_bytes", 900, "900_B"),
        ("bytes", 5_000_000_000_000_000_000, "5_000_PB"),
        ("lag_bytes", -1, "-1_B"),
        ("waiting", 1_795_238_532, "1_795_238_532"),
        ("objects", 1_795_238_532.5, "1_795_238_532"),
        ("objects_per_s", 0.05, "0.05"),
        ("objects_per_s", 1234.5, "1_234"),
        ("oldest_age_s", 0, "0_s"),
        ("p50_s", 0.0123, "12_ms"),
        ("eta_s", 3600, "60_min"),
        ("eta_s", 1_795_238_532.0, "20778.2_d"),
        ("silent_minutes", 180, "3.0_h"),
        ("at", 1795238532.5, "2026-11-21 05:22:12 UTC"),
        ("updated_at", 0, "-"),
        ("paused", True, "yes"),
        ("error", "", "-"),
        ("lane", "<b>", "&lt;b&gt;"),
    ],
)
def test_a_number_is_shown_in_the_unit_of_its_name(name, value, shown):
    assert quantity(name, value).replace("\u202f", "_") == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("oldest_age_s", "oldest age"),
        ("requests_per_s", "requests/s"),
        ("already_present", "already present"),
        ("bytes", "bytes"),
        ("lag_bytes", "lag bytes"),
    ],
)
def test_a_heading_has_no_unit_and_no_underscore(name, shown):
    assert label(name) == shown


def full() -> Status:
    return Status(
        at=1795238532.5,
        queues=(QueueStatus(lane="hot", waiting=3_000_000_000, running=1, delayed=0, oldest_age_s=61.0),),
        workers=2,
        rules=(RuleStatus(bucket="site", rule="<i>", counts={"stored": 7, "bytes": 2_000_000_000}),),
        failures={"site": 4},
        failure_reasons={"origin_timeout": 4},
        origins=(OriginOverview(host="old.example", state=State.OUT, out_s=30.0, answers=2, p50_s=0.5),),
        consumers=(
            ConsumerStatus(instance="c", path="/a.log", lag_bytes=5, lag_s=0.2, misses=1, silent_s=1.0),
        ),
        scans=(
            ScanStatus(
                name="site",
                bucket="site",
                phase="move",
                paused=False,
                total=Account(found=10, pending=10, bytes=1_500_000_000),
                progress=Progress(
                    settled=0, expected=10, duration_s=5, objects_per_s=0, bytes_per_s=1.2e9, eta_s=None
                ),
            ),
        ),
    )


def test_every_part_of_the_status_has_its_place_and_only_its_time_is_a_date():
    page = render(plain(full()))
    for text in ("old.example", "/a.log", "origin_timeout", "1.5\u202fGB", "1.2\u202fGB/s", "2.0\u202fGB"):
        assert text in page
    assert "cause" not in page, "nobody has one"
    assert re.findall(r"\d{4}-\d\d-\d\d", page) == ["2026-11-21"]
    assert "<i>" not in page


def test_what_could_not_be_read_is_said_first_and_has_no_empty_table():
    why = "ConnectionError: <refused>"
    page = render(plain(Status(at=1.0, problems={"queues": why, "workers": why, "rules": "no answer"})))
    body = page.partition("<h1>")[2]
    assert body.index("queues, workers</b>not read: ConnectionError: &lt;refused&gt;") < body.index("<h2>")
    assert body.index("rules</b>not read: no answer") < body.index("<h2>")
    assert "<h2>queues</h2>" not in body
    assert "workers 0" not in body
    assert "<h2>scans</h2>" in body


def test_the_page_brings_no_script_and_follows_the_colours_of_the_reader():
    page = render({})
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert "Nothing to show yet" in page
