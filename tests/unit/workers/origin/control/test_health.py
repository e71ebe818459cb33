"""Ejection, half-open probes, pauses; with a clock that only moves when told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import (
    AddressRefused,
    DigestMismatch,
    OriginStatus,
    OriginThrottled,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
    RedirectRefused,
    SoftNotFound,
)
from workers.origin.control.health import Cause, Ejection, Health, State, asked_pause_s, is_health_failure

HOST = "a.example"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(clock)


def status(code: int) -> OriginStatus:
    return OriginStatus(f"answered {code}", origin=HOST, status=code)


def throttled(after_s: float | None, code: int = 429) -> OriginThrottled:
    return OriginThrottled("slow down", origin=HOST, status=code, retry_after_s=after_s)


def mismatch() -> DigestMismatch:
    return DigestMismatch("differs", origin=HOST, algorithm="md5", expected="00", actual="ff")


def eject(health, host=HOST):
    for _ in range(5):
        ejection = health.failed(host, OriginUnreachable("refused", origin=host))
    return ejection


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        pytest.param(OriginUnreachable("x"), True, id="B7-connect"),
        pytest.param(OriginTimeout("x"), True, id="B7-header-timeout"),
        pytest.param(OriginTimeout("x", phase="idle"), True, id="B7-stalled-body"),
        pytest.param(OriginTruncated("x"), True, id="B7-truncated"),
        pytest.param(mismatch(), True, id="B7-digest"),
        pytest.param(status(500), True, id="B7-500"),
        pytest.param(status(503), True, id="B7-503"),
        pytest.param(status(599), True, id="B7-599"),
        pytest.param(status(429), True, id="B7-429"),
        pytest.param(throttled(None), True, id="B7-429-throttled"),
        pytest.param(status(404), False, id="B7-404"),
        pytest.param(status(403), False, id="B7-403"),
        pytest.param(status(410), False, id="B7-410"),
        pytest.param(status(416), False, id="B7-416"),
        pytest.param(SoftNotFound("x"), False, id="B7-soft-404"),
        pytest.param(RedirectRefused("x"), False, id="B7-redirect"),
        pytest.param(AddressRefused("x"), False, id="B7-address"),
    ],
)
def test_what_counts_against_a_host(error, counts):
    assert is_health_failure(error) is counts


def test_five_consecutive_failures_eject_for_thirty_seconds(health, clock):
    """B8"""
    for _ in range(4):
        assert health.failed(HOST, OriginTimeout("x")) is None
        assert health.usable(HOST)
    ejection = health.failed(HOST, OriginTimeout("x"))
    assert ejection == Ejection(host=HOST, remaining_s=30.0, count=1, cause=Cause.FAILURES)
    assert not health.usable(HOST)
    clock.now += 29.9
    assert health.state(HOST) is State.OUT
    clock.now += 0.2
    assert health.state(HOST) is State.HALF_OPEN


def test_one_success_resets_the_count_of_failures(health):
    """B8"""
    for _ in range(20):
        for _ in range(4):
            assert health.failed(HOST, status(500)) is None
        health.succeeded(HOST)
    assert health.state(HOST) is State.WELL


@given(st.lists(st.sampled_from([404, 403, 410, 401, 416]), max_size=50))
def test_answers_of_the_4xx_kind_never_eject(codes):
    """B7"""
    health = Health(Clock())
    assert all(health.failed(HOST, status(code)) is None for code in codes)
    assert health.usable(HOST)


def test_each_ejection_in_a_row_is_longer_up_to_five_minutes(health, clock):
    """B8: 30 s times the number of ejections, at most 300 s."""
    durations = []
    ejection = eject(health)
    for _ in range(12):
        durations.append(ejection.remaining_s)
        clock.now += ejection.remaining_s
        assert health.usable(HOST)
        health.begin(HOST)
        ejection = health.failed(HOST, status(502))
        assert ejection is not None, "a failed probe ejects at once"
    assert durations == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


def test_after_an_ejection_one_request_probes_and_a_success_makes_well(health, clock):
    eject(health)
    clock.now += 30
    assert health.usable(HOST)
    health.begin(HOST)
    assert not health.usable(HOST), "one probe at a time"
    assert health.succeeded(HOST)
    assert health.state(HOST) is State.WELL
    assert eject(health).count == 1, "a success forgets earlier ejections"


def test_a_probe_whose_result_never_comes_is_forgotten(health, clock):
    eject(health)
    clock.now += 30
    health.begin(HOST)
    clock.now += 14
    assert not health.usable(HOST)
    clock.now += 2
    assert health.usable(HOST)


def test_a_probe_answered_404_makes_well(health, clock):
    """B7: a 404 is no failure; the host answers."""
    eject(health)
    clock.now += 30
    health.begin(HOST)
    assert health.failed(HOST, status(404)) is None
    assert health.state(HOST) is State.WELL


def test_failures_of_requests_on_their_way_do_not_prolong_an_ejection(health):
    eject(health)
    for _ in range(50):
        assert health.failed(HOST, OriginTimeout("x")) is None
    assert health.ejections()[0].count == 1


def test_a_digest_difference_ejects_at_once(health):
    """B8"""
    ejection = health.failed(HOST, mismatch())
    assert ejection.cause is Cause.DIGEST
    assert ejection.remaining_s == 30


def test_a_success_of_another_request_does_not_excuse_a_digest_difference(health, clock):
    health.failed(HOST, mismatch())
    assert not health.succeeded(HOST)
    assert not health.usable(HOST)
    clock.now += 30
    assert health.succeeded(HOST)
    assert health.usable(HOST)


def test_a_success_while_failing_open_ends_the_ejection(health):
    eject(health)
    assert health.succeeded(HOST)
    assert health.usable(HOST)


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        pytest.param(throttled(12), 12, id="B8-429"),
        pytest.param(throttled(120, 503), 120, id="B8-503"),
        pytest.param(throttled(86_400), 300, id="B8-at-most-300"),
        pytest.param(throttled(None), None, id="B8-none-named"),
        pytest.param(throttled(0), None, id="B8-zero"),
        pytest.param(status(503), None, id="B8-503-without"),
    ],
)
def test_retry_after_is_honoured_up_to_its_cap(error, pause_s):
    assert asked_pause_s(error) == pause_s


def test_retry_after_puts_out_at_once_for_that_time(health, clock):
    """B8"""
    ejection = health.failed(HOST, throttled(42))
    assert (ejection.remaining_s, ejection.cause) == (42, Cause.THROTTLED)
    assert health.pause_s(HOST) == 42
    health.succeeded(HOST)
    assert not health.usable(HOST), "what was on its way proves nothing"
    clock.now += 42
    assert health.pause_s(HOST) == 0
    assert health.usable(HOST)


def test_a_429_without_a_time_pauses_for_longer_each_time(health, clock):
    pauses = []
    for _ in range(8):
        health.failed(HOST, throttled(None))
        pauses.append(health.pause_s(HOST))
        clock.now += health.pause_s(HOST)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    health.succeeded(HOST)
    health.failed(HOST, throttled(None))
    assert health.pause_s(HOST) == 0.5


def test_an_ejection_published_by_another_process_counts_here(health, clock):
    fresh = health.adopt({HOST: Ejection(host=HOST, remaining_s=20, count=3, cause=Cause.FAILURES)})
    assert fresh == [HOST]
    assert not health.usable(HOST)
    clock.now += 20
    health.begin(HOST)
    assert health.failed(HOST, status(500)).remaining_s == 120, "the count goes on"


def test_a_host_that_the_fleet_found_well_is_well_here(health):
    health.adopt({HOST: Ejection(host=HOST, remaining_s=20, count=1, cause=Cause.FAILURES)})
    health.adopt({})
    assert health.state(HOST) is State.WELL


def test_an_ejection_not_yet_published_survives_what_the_fleet_says(health):
    eject(health)
    assert [ejection.host for ejection in health.unshared()] == [HOST]
    health.adopt({})
    assert health.state(HOST) is State.OUT
    health.published(HOST)
    assert health.unshared() == []


def test_with_a_fleet_the_half_open_probe_needs_its_permission(health, clock):
    health.local_permits = False
    health.adopt({HOST: Ejection(host=HOST, remaining_s=0, count=1, cause=Cause.FAILURES)})
    assert not health.usable(HOST)
    assert list(health.wanted_permits()) == [HOST]
    health.grant(HOST, 15)
    assert health.usable(HOST)
    health.begin(HOST)
    assert not health.usable(HOST), "the permission is for one request"


@given(
    st.lists(st.sampled_from(["ok", "500", "404", "429", "429/9", "digest", "wait", "begin"]), max_size=200)
)
def test_no_sequence_of_answers_puts_a_host_out_for_more_than_its_cap(steps):
    clock = Clock()
    health = Health(clock)
    errors = {
        "500": status(500),
        "404": status(404),
        "429": throttled(None),
        "429/9": throttled(9),
        "digest": mismatch(),
    }
    for step in steps:
        if step == "ok":
            health.succeeded(HOST)
        elif step == "wait":
            clock.now += 17
        elif step == "begin":
            health.begin(HOST)
        else:
            health.failed(HOST, errors[step])
        assert health.back_at(HOST) - clock.now <= 300
        assert health.pause_s(HOST) <= 300
        assert (HOST in health.sick) is (health.state(HOST) is not State.WELL)
    clock.now += 301
    assert health.usable(HOST)
