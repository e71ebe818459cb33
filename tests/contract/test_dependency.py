"""The record of who still needs the origin, over the fake and the real Redis."""

from __future__ import annotations

import pytest

from scheduler.dispatch.dependency import (
    MAX_NAMES,
    NONE,
    OTHER,
    DependencyRecorder,
    agent_of,
    dependency,
    expected_zero,
    prefix_of,
    referrer_of,
)
from workers.broker.clients import connect
from workers.settings import BrokerSettings


async def test_misses_are_counted_by_prefix_referrer_and_agent(redis):
    recorder = DependencyRecorder(redis, namespace="n")
    for number in range(3):
        recorder.note(
            "site", f"img/2024/{number}.png", referer="https://u:p@a.example/x?token=1", user_agent="curl/8 x"
        )
    recorder.note("site", "robots.txt")
    await recorder.flush()
    await recorder.flush()
    found = await dependency(redis, "site", namespace="n", period_s=3600)
    assert found.misses == 4
    assert found.prefixes == (("img/2024/", 3), ("(root)", 1))
    assert found.referrers == (("a.example/x", 3), (NONE, 1)), "neither query nor user info is kept"
    assert found.agents == (("curl/8", 3), (NONE, 1))
    assert (await dependency(redis, "other", namespace="n", period_s=3600)).misses == 0


async def test_a_flood_of_names_is_counted_together(redis):
    recorder = DependencyRecorder(redis, namespace="n")
    for number in range(MAX_NAMES + 50):
        recorder.note("site", f"{number}/x/y")
    await recorder.flush()
    found = await dependency(redis, "site", namespace="n", period_s=3600)
    assert (found.misses, found.prefixes[0]) == (MAX_NAMES + 50, (OTHER, 50))


async def test_what_redis_does_not_take_is_written_later(valkey_url):
    away = connect(BrokerSettings(url="redis://127.0.0.1:1/0"))
    recorder = DependencyRecorder(away, namespace="n")
    recorder.note("site", "a/b")
    await recorder.flush()
    await away.aclose()
    back = connect(BrokerSettings(url=valkey_url))
    await back.flushall()
    recorder._redis = back
    await recorder.flush()
    assert (await dependency(back, "site", namespace="n", period_s=3600)).misses == 1
    await back.aclose()


@pytest.mark.parametrize(
    ("key", "want"), [("a", "(root)"), ("a/b", "a/"), ("a/b/c", "a/b/"), ("a/b/c/d", "a/b/"), ("a/", "a/")]
)
def test_prefixes(key, want):
    assert prefix_of(key) == want


def test_absent_referrers_and_agents_have_one_name():
    assert {referrer_of(""), referrer_of("-"), agent_of(""), agent_of("-")} == {NONE}


def test_a_falling_curve_has_an_expected_end_and_a_rising_one_has_none():
    hour = 3600
    falling = [(at * hour, number) for at, number in enumerate([1023, 511, 255, 127, 63])]
    end = expected_zero(falling, now=5 * hour)
    assert end == pytest.approx(9 * hour, abs=hour / 10), "halving: 1023 + 1 becomes 1 + 1 after nine hours"
    assert expected_zero([(at * hour, at + 1) for at in range(5)], now=5 * hour) is None
    assert expected_zero(falling[:2], now=5 * hour) is None
    assert expected_zero([], now=0) is None
