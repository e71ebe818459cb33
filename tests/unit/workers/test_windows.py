"""Clock windows, rates as operators write them, and the limits that follow."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workers.origin.control.limits import Limits, Schedule, cold_part
from workers.settings import BudgetSettings
from workers.windows import parse_bytes_per_s, parse_requests_per_s, parse_window, parse_window_line

MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001 - a wall clock without a place


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-20:00 mon-fri", [at(0, 8), at(4, 19, 59)], [at(0, 7, 59), at(0, 20), at(5, 12)]),
        ("mon-fri 08:00-20:00", [at(0, 8)], [at(5, 12)]),
        ("22:00-06:00", [at(0, 22), at(3, 5, 59), at(6, 0)], [at(0, 6), at(0, 21, 59)]),
        ("22:00-06:00 sat", [at(5, 23), at(6, 5)], [at(5, 5), at(6, 23), at(0, 5)]),
        ("22:00-02:00 sun", [at(6, 23), at(0, 1)], [at(6, 1)]),
        ("sat,sun", [at(5, 0), at(6, 23, 59)], [at(0, 0), at(4, 23, 59)]),
        ("sat, sun", [at(5, 0)], [at(0, 0)]),
        ("fri-mon", [at(4, 1), at(5, 1), at(6, 1), at(0, 1)], [at(1, 1), at(3, 1)]),
        ("00:00-24:00", [at(0, 0), at(2, 23, 59)], []),
        ("9:30-10:15 WED", [at(2, 9, 30)], [at(2, 10, 15), at(1, 9, 45)]),
    ],
)
def test_a_window_holds_these_times_and_not_those(text, inside, outside):
    window = parse_window(text)
    assert all(window.contains(time) for time in inside)
    assert not any(window.contains(time) for time in outside)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "8-20",
        "08:00-08:00",
        "24:00-02:00",
        "08:60-09:00",
        "25:00-26:00",
        "mon-",
        "monday",
        "08:00-09:00 10:00-11:00",
        "mon tue",
        "foo",
    ],
)
def test_what_is_no_window_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20MB/s", 20e6),
        ("20 MB/s", 20e6),
        ("20mb/s", 20e6),
        ("1.5MiB/s", 1.5 * 2**20),
        ("500KB", 500e3),
        ("64KiB/s", 65536),
        ("1GB/s", 1e9),
        ("1GiB/s", 2**30),
        ("100Mbit/s", 12.5e6),
        ("12345", 12345),
        ("0", 0),
    ],
)
def test_bytes_a_second_are_read(text, value):
    assert parse_bytes_per_s(text) == value


@pytest.mark.parametrize("text", ["", "fast", "20MB/h", "-1MB/s", "1TB/s", "MB/s", "1,5MB/s"])
def test_unknown_rates_are_refused(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_bytes_per_s(text)


@pytest.mark.parametrize(
    ("text", "value"), [("10/s", 10), ("2.5 requests/s", 2.5), ("10 req/s", 10), ("7", 7)]
)
def test_requests_a_second_are_read(text, value):
    assert parse_requests_per_s(text) == value


def test_a_window_is_read_with_all_its_values_from_one_line():
    line = parse_window_line("08:00-20:00 mon-fri: 20MB/s, 10 requests/s, 4 connections")
    assert (line.when, line.bytes_per_s, line.requests_per_s, line.concurrency) == (
        "08:00-20:00 mon-fri",
        20e6,
        10,
        4,
    )


def test_a_one_line_window_may_name_hours_only():
    line = parse_window_line("22:00-06:00: 100MB/s")
    assert (line.when, line.bytes_per_s) == ("22:00-06:00", 100e6)


@pytest.mark.parametrize(
    "text", ["08:00-20:00", "08:00-20:00 20MB/s", "mon: 1MB/s, 2MB/s", "mon: 1/s, 2/s", "mon:", "moon: 1MB/s"]
)
def test_a_one_line_window_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match=r"allowed|second value"):
        parse_window_line(text)


def test_budget_settings_take_human_texts_and_numbers():
    budget = BudgetSettings.model_validate(
        {
            "bytes_per_s": "20MB/s",
            "requests_per_s": "5/s",
            "windows": [
                "08:00-20:00 mon-fri: 2MB/s",
                {"when": "sat,sun", "concurrency": 2, "bytes_per_s": 100},
            ],
        }
    )
    assert (budget.bytes_per_s, budget.requests_per_s) == (20e6, 5)
    assert [window.bytes_per_s for window in budget.windows] == [2e6, 100]


@pytest.mark.parametrize(
    "bad",
    [
        {"bytes_per_s": "soon"},
        {"bytes_per_s": 0},
        {"windows": ["always"]},
        {"windows": [{"when": "xx"}]},
        {"requests_per_s": "1/min"},
    ],
)
def test_budget_settings_refuse_what_they_cannot_read(bad):
    with pytest.raises(ValidationError):
        BudgetSettings.model_validate(bad)


def test_the_first_window_that_contains_the_time_counts_and_leaves_the_rest_as_it_was():
    schedule = Schedule(
        BudgetSettings(
            concurrency=8,
            windows=[
                "08:00-20:00 mon-fri: 1MB/s",
                "12:00-13:00: 0 connections",
                "sun: 5 requests/s, 2 connections",
            ],
        )
    )
    assert schedule.at(at(0, 12, 30)) == Limits(concurrency=8, bytes_per_s=1e6)
    assert schedule.at(at(5, 12, 30)) == Limits(concurrency=0)
    assert schedule.at(at(5, 12, 30)).closed
    assert schedule.at(at(6, 20)) == Limits(concurrency=2, requests_per_s=5)
    assert schedule.at(at(5, 20)) == Limits(concurrency=8)
    assert schedule.bounded


def test_a_budget_without_values_is_unbounded():
    assert not Schedule(BudgetSettings()).bounded


@pytest.mark.parametrize(
    ("slots", "share", "cold"),
    [
        (1, 0.25, 1),
        (2, 0.25, 1),
        (4, 0.25, 3),
        (8, 0.25, 6),
        (100, 0.25, 75),
        (8, 0.0, 8),
        (3, 0.9, 1),
        (10, 0.01, 9),
    ],
)
def test_cold_work_gets_all_but_the_share_of_hot(slots, share, cold):
    assert cold_part(slots, share) == cold


@given(st.integers(1, 10_000), st.floats(0, 0.9))
def test_cold_work_always_gets_at_least_one_slot_and_never_all_of_several(slots, share):
    cold = cold_part(slots, share)
    assert 1 <= cold <= slots
    if slots > 1 and share > 0:
        assert cold < slots
