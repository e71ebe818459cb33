"""The record of a front's minutes: what is on it when clocks are set and Redis forgets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scheduler.front import stats
from scheduler.front.stats import REMEMBERED_MINUTES, GatewayStats


class Written:
    """A ledger that replaces a minute by what is written of it, as the real one does."""

    def __init__(self):
        self.minutes = SimpleNamespace(write=self._write)
        self.first_bytes = SimpleNamespace(write=self._nothing)
        self.rows = {}

    async def _write(self, _role, _instance, minute, counts):
        self.rows[minute] = dict(counts)

    async def _nothing(self, *_):
        pass

    def origin(self):
        return {minute: row["origin|b|r"] for minute, row in self.rows.items() if "origin|b|r" in row}


@pytest.fixture
def now(monkeypatch):
    at = SimpleNamespace(minute=100.0)
    monkeypatch.setattr(stats.time, "time", lambda: at.minute * 60)
    return at


async def test_a_minute_that_a_wrong_clock_came_upon_before_keeps_what_was_counted_in_it(now):
    ledger = Written()
    front = GatewayStats(ledger, instance="f")
    now.minute = 103.0
    await front._flush()
    front.answered("origin", "b", "r")
    await front._flush()
    for minute in (100.5, 101.0, 102.0, 103.0, 104.0):  # the clock was set, and time goes on
        now.minute = minute
        await front._flush()
    assert ledger.origin() == {103: 1}
    now.minute = 103.5  # and set back once more
    await front._flush()
    front.answered("origin", "b", "r")
    await front._flush()
    assert ledger.origin() == {103: 2}
    assert set(ledger.rows) == {100, 101, 102, 103, 104}


async def test_the_last_seconds_of_a_minute_are_written_again_when_redis_forgot_them(now):
    ledger = Written()
    front = GatewayStats(ledger, instance="f")
    await front._flush()
    before = dict(ledger.rows)
    front.answered("origin", "b", "r")
    now.minute = 101.01
    await front._flush()
    ledger.rows = before  # what it was told within the last second
    now.minute += 5 / 60
    await front._flush()
    assert ledger.origin() == {100: 1}


async def test_minutes_are_remembered_in_bounded_number(now):
    front = GatewayStats(Written(), instance="f")
    for minute in range(100, 100 + 3 * REMEMBERED_MINUTES):
        now.minute = minute
        await front._flush()
    assert len(front._minutes) == REMEMBERED_MINUTES
