"""Additive increase, multiplicative decrease."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.origin.control.adaptive import CEILING, Adaptive


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_it_grows_by_one_a_success_until_the_first_distress(clock):
    adaptive = Adaptive(clock, start=16)
    for _ in range(48):
        adaptive.succeeded(0.01, adaptive.limit)
    assert adaptive.limit == 64


def test_after_distress_it_grows_by_one_a_round(clock):
    adaptive = Adaptive(clock, start=16)
    adaptive.distressed()
    assert adaptive.limit == 8
    for _ in range(9):
        adaptive.succeeded(0.01, 8)
    assert adaptive.limit == 9


def test_it_halves_once_a_second_and_never_goes_below_one(clock):
    adaptive = Adaptive(clock, start=16)
    for _ in range(30):
        adaptive.distressed()
    assert adaptive.limit == 8, "the answers of one bad moment arrive together"
    limits = []
    for _ in range(6):
        clock.now += 1.5
        adaptive.distressed()
        limits.append(adaptive.limit)
    assert limits == [4, 2, 1, 1, 1, 1]


def test_it_does_not_grow_while_it_is_not_used(clock):
    adaptive = Adaptive(clock, start=16)
    for _ in range(1000):
        adaptive.succeeded(0.01, 3)
    assert adaptive.limit == 16


def test_it_shrinks_when_answers_get_slower_than_the_baseline(clock):
    adaptive = Adaptive(clock, start=64)
    for _ in range(50):
        adaptive.succeeded(0.02, 10)
    before = adaptive.limit
    for _ in range(100):
        clock.now += 0.1
        adaptive.succeeded(0.5, adaptive.limit)
    assert adaptive.limit < before * 0.7
    shrunk = adaptive.limit
    for _ in range(300):
        clock.now += 0.1
        adaptive.succeeded(0.02, adaptive.limit)
    assert adaptive.limit > shrunk, "it recovers with the latency"


def test_small_latencies_may_vary_without_effect(clock):
    adaptive = Adaptive(clock, start=16)
    for step in range(500):
        clock.now += 0.05
        adaptive.succeeded(0.002 if step % 2 else 0.02, adaptive.limit)
    assert adaptive.limit > 200


def test_the_baseline_follows_an_origin_that_stays_slower(clock):
    adaptive = Adaptive(clock, start=16)
    for _ in range(50):
        adaptive.succeeded(0.1, 1)
    for _ in range(5000):
        clock.now += 0.01
        adaptive.succeeded(0.5, 1)
    assert adaptive.baseline_s > 0.4


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 2000), st.booleans()), max_size=300))
def test_the_limit_stays_between_one_and_its_ceiling(steps):
    clock = Clock()
    adaptive = Adaptive(clock)
    for first_byte_s, in_flight, distressed in steps:
        clock.now += 0.5
        if distressed:
            adaptive.distressed()
        else:
            adaptive.succeeded(first_byte_s, in_flight)
        assert 1 <= adaptive.limit <= CEILING
