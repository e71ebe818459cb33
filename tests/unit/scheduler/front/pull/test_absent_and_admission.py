"""The near half of the negative cache, and the gate before new pulls."""

from __future__ import annotations

import pytest

from scheduler.front.pull.absent import MAX_BODY_BYTES, AbsentCache
from scheduler.front.pull.admission import MAX_CLIENTS, Admission
from workers.answers import OriginAnswer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_an_absent_key_is_remembered_for_its_time_and_rule_version_l14(clock):
    cache = AbsentCache(10, clock=clock)
    cache.remember("b", "k", rule="r", epoch=1, ttl_s=10)
    assert cache.find("b", "k", rule="r", epoch=1)
    assert cache.find("b", "other", rule="r", epoch=1) is None
    clock.now += 10
    assert cache.find("b", "k", rule="r", epoch=1) is None
    cache.remember("b", "k", rule="r", epoch=1, ttl_s=10)
    assert cache.find("b", "k", rule="r", epoch=2) is None, "new rules may know another origin"


def test_the_cache_is_bounded_in_entries_and_in_bytes(clock):
    cache = AbsentCache(100, clock=clock)
    for number in range(1000):
        cache.remember("b", str(number), rule="r", epoch=1, ttl_s=10)
    assert len(cache) == 100
    page = OriginAnswer(status=404, headers=(), body=b"x" * (MAX_BODY_BYTES // 4))
    for number in range(20):
        cache.remember("b", f"p{number}", rule="r", epoch=1, ttl_s=10, answer=page)
    assert len(cache) <= 4
    assert AbsentCache(0, clock=clock).find("b", "k", rule="r", epoch=1) is None


def test_what_nobody_asks_for_again_is_not_kept_until_the_cache_is_full(clock):
    """Else a front under crawlers grows for days, with keys that it does not believe any more."""
    cache = AbsentCache(100_000, clock=clock)
    for number in range(1000):
        cache.remember("b", str(number), rule="r", epoch=1, ttl_s=10)
        clock.now += 1
    assert len(cache) == 10
    assert cache.find("b", "999", rule="r", epoch=1)
    assert cache.find("b", "991", rule="r", epoch=1)


def test_a_client_gets_its_rate_and_the_others_theirs(clock):
    gate = Admission(per_client=10, overall=0, clock=clock)
    assert [gate.ask("a") for _ in range(20)] == [None] * 20
    assert gate.ask("a") == 1
    assert gate.ask("b") is None
    clock.now += 0.1
    assert gate.ask("a") is None
    assert gate.ask("a") == 1


def test_all_clients_together_have_a_rate(clock):
    gate = Admission(per_client=0, overall=5, clock=clock)
    assert sum(gate.ask(f"c{number}") is None for number in range(100)) == 10
    clock.now += 1
    assert sum(gate.ask(f"d{number}") is None for number in range(100)) == 5


def test_a_rate_below_one_a_second_still_admits(clock):
    gate = Admission(per_client=0.1, overall=0, clock=clock)
    assert gate.ask("a") is None
    assert gate.ask("a") == 10
    clock.now += 10
    assert gate.ask("a") is None


def test_addresses_are_forgotten_not_collected(clock):
    gate = Admission(per_client=1, overall=0, clock=clock)
    for number in range(MAX_CLIENTS + 100):
        gate.ask(str(number))
    assert len(gate._clients) == MAX_CLIENTS


def test_what_a_head_was_told_is_remembered_for_heads_only(clock):
    cache = AbsentCache(10, clock=clock)
    of = {"rule": "r", "epoch": 1}
    cache.remember("b", "k", **of, ttl_s=10, by_head=True)
    assert cache.find("b", "k", **of) is None
    assert cache.find("b", "k", **of, head=True) is not None
    cache.remember("b", "k", **of, ttl_s=10)
    cache.remember("b", "k", **of, ttl_s=10, by_head=True)
    assert cache.find("b", "k", **of) is not None, "a GET's word stays"
