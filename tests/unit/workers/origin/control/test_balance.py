"""Smooth weighted round robin and the order of candidates."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.origin.control.balance import Balancer, SmoothWeights, distinct, hinted, order
from workers.plan import FetchItem, FetchPlan, Origin, OriginGroup


def group(host: str, weight: int = 1, *standbys: str) -> OriginGroup:
    return OriginGroup(
        primary=Origin(host=host), weight=weight, standbys=tuple(Origin(host=name) for name in standbys)
    )


def plan_of(*groups: OriginGroup, **fields: object) -> FetchPlan:
    return FetchPlan(bucket="site", rule="r", groups=groups, **fields)


@pytest.mark.parametrize(
    ("weights", "sequence"),
    [
        pytest.param((5, 1, 1), "aabacaa", id="B1-nginx-example"),
        pytest.param((1, 1, 1), "abcabc", id="B1-equal"),
        pytest.param((2, 1), "abaaba", id="B1-two-to-one"),
        pytest.param((7,), "aaa", id="B1-single"),
    ],
)
def test_picks_follow_the_smooth_sequence(weights, sequence):
    state = SmoothWeights(weights)
    assert "".join("abc"[state.pick()] for _ in sequence) == sequence


def test_weights_4_2_1_over_7000_picks_are_exact():
    state = SmoothWeights((4, 2, 1))
    counts = Counter(state.pick() for _ in range(7000))
    assert counts == {0: 4000, 1: 2000, 2: 1000}


def test_eight_to_two_gives_eight_and_two_of_any_ten():
    """B1: exact over any full cycle, wherever it begins."""
    state = SmoothWeights((8, 2))
    picks = [state.pick() for _ in range(60)]
    assert all(Counter(picks[begin : begin + 10]) == {0: 8, 1: 2} for begin in range(50))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.integers(0, 200))
def test_every_full_cycle_is_exact_for_any_weights(weights, offset):
    state = SmoothWeights(weights)
    for _ in range(offset):
        state.pick()
    counts = Counter(state.pick() for _ in range(sum(weights)))
    assert [counts[index] for index in range(len(weights))] == weights


@given(st.lists(st.integers(1, 100), min_size=2, max_size=10), st.integers(1, 500))
def test_no_prefix_is_more_than_one_pick_from_its_share_for_two_hosts_or_far_off_for_more(weights, picks):
    state = SmoothWeights(weights)
    counts = Counter(state.pick() for _ in range(picks))
    total = sum(weights)
    for index, weight in enumerate(weights):
        assert abs(counts[index] - picks * weight / total) <= max(1.0, len(weights) / 2)


def test_ineligible_hosts_are_left_out_and_the_rest_keep_their_proportion():
    state = SmoothWeights((4, 2, 1))
    counts = Counter(state.pick([False, True, True]) for _ in range(300))
    assert counts == {1: 200, 2: 100}


def test_all_ineligible_counts_as_all_eligible():
    state = SmoothWeights((1, 1))
    assert [state.pick([False, False]) for _ in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize("weights", [(), (0, 1), (-1,)])
def test_weights_below_one_are_refused(weights):
    with pytest.raises(ValueError, match="positive"):
        SmoothWeights(weights)


def test_a_batch_is_balanced_item_by_item():
    balancer = Balancer()
    plan = plan_of(group("a", 4), group("b", 2), group("c", 1))
    assert Counter(balancer.pick(plan) for _ in range(70)) == {0: 40, 1: 20, 2: 10}


def test_each_of_several_processes_is_exact_by_itself():
    plan = plan_of(group("a", 4), group("b", 2), group("c", 1))
    processes = [Balancer() for _ in range(4)]
    for balancer in processes:
        assert Counter(balancer.pick(plan) for _ in range(1750)) == {0: 1000, 1: 500, 2: 250}


def test_state_is_kept_apart_by_bucket_rule_and_epoch():
    balancer = Balancer()
    groups = (group("a"), group("b"))
    plans = [
        plan_of(*groups),
        plan_of(*groups, epoch=2),
        FetchPlan(bucket="other", rule="r", groups=groups),
        FetchPlan(bucket="site", rule="q", groups=groups),
    ]
    assert [balancer.pick(plan) for plan in plans] == [0, 0, 0, 0]
    assert [balancer.pick(plan) for plan in plans] == [1, 1, 1, 1]


def test_states_of_old_rule_versions_are_forgotten(monkeypatch):
    monkeypatch.setattr("workers.origin.control.balance.MAX_STATES", 3)
    balancer = Balancer()
    for epoch in range(10):
        balancer.pick(plan_of(group("a"), group("b"), epoch=epoch))
    assert len(balancer._states) == 3


A = group("a", 1, "a1", "a2")
B = group("b", 9, "b1")
C = group("c", 5)


@pytest.mark.parametrize(
    ("groups", "pick", "fields", "hosts"),
    [
        pytest.param((A, B), 0, {}, ["a", "a1", "a2"], id="B2-primary-then-its-standbys"),
        pytest.param((A, B), 1, {}, ["b", "b1"], id="B2-other-pick"),
        pytest.param(
            (C, A, B), 1, {"across_groups": True}, ["a", "a1", "a2", "b"], id="B2-across-by-weight-and-B3-cut"
        ),
        pytest.param(
            (C, A, B),
            1,
            {"across_groups": True, "max_attempts": 9},
            ["a", "a1", "a2", "b", "c"],
            id="B2-across-all",
        ),
        pytest.param((A,), 0, {"max_attempts": 2}, ["a", "a1"], id="B3-max-attempts"),
        pytest.param((group("a", 1, "b", "a", "b"),), 0, {}, ["a", "b"], id="B3-no-host-twice"),
        pytest.param(
            (group("a", 1, "b"), group("b", 1)),
            0,
            {"across_groups": True},
            ["a", "b"],
            id="B3-across-no-twice",
        ),
    ],
)
def test_candidates_come_in_order(groups, pick, fields, hosts):
    assert [origin.host for origin in order(plan_of(*groups, **fields), pick)] == hosts


def test_standbys_come_first_while_the_probe_of_the_primary_fails():
    """B10"""
    assert [origin.host for origin in order(plan_of(A, B), 0, standbys_first=True)] == ["a1", "a2", "a"]


@pytest.mark.parametrize(("pick", "expected"), [(0, 0), (1, 1), (2, None), (-1, None), (None, None)])
def test_a_pick_that_does_not_fit_the_plan_is_no_hint(pick, expected):
    assert hinted(plan_of(A, B), FetchItem(key="k", path="k", pick=pick)) == expected


@given(st.lists(st.sampled_from("abcdef"), max_size=12))
def test_distinct_keeps_the_first_of_each_host(hosts):
    """B3"""
    found = [origin.host for origin in distinct([Origin(host=name) for name in hosts])]
    assert found == list(dict.fromkeys(hosts))
