"""A process's part of what an origin stands, while Redis answers, loses a call, or is away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workers.errors import BrokerUnavailable
from workers.origin.control.limits import Limits
from workers.origin.control.rates import BURST_S, Bucket, Rate
from workers.origin.control.share import Demand, Share
from workers.plan import Lane

RATE = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class FleetOf:
    """Answers what it is told to; None is a call that is lost."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asked = []

    async def lease(self, host, limits, *, using, wanted, **_):
        del host, limits
        self.asked.append((using, wanted))
        return self._next()

    async def take(self, host, kind, **asked):
        del host, kind
        self.asked.append(asked)
        answer = self._next()
        return (max(answer, asked["least"]), 0.0)

    def _next(self):
        answer = self.answers.pop(0)
        if answer is None:
            raise BrokerUnavailable("lost")
        return answer


def lease(hot, cold):
    return SimpleNamespace(hot=hot, cold=cold, members=2, silent=0, others_wait=False, known=True)


def share_with(*answers):
    fleet = FleetOf(*answers)
    return Share("a.example", fleet, hot_share=0.3, lease_s=15.0, clock=Clock()), fleet


async def renew(share, slots, **demand):
    needed = {"hot": 0, "cold": 0, "hot_waiting": 0, "cold_waiting": 0, "hot_peak": 0, "cold_peak": 0}
    await share.renew(Limits(concurrency=slots), lambda: Demand(**{**needed, **demand}), lambda: None)


async def test_what_cold_still_uses_of_what_was_given_for_hot_is_not_kept_twice():
    share, fleet = share_with(lease(1, 1), lease(2, 0), lease(2, 0))
    await renew(share, 3, hot=1, cold=1)
    await renew(share, 3, hot=1, hot_waiting=1, cold=1, cold_waiting=2)
    assert share.total == 2
    # Two are leased, and two are in use: a third would be over what the others were told.
    await renew(share, 3, hot=1, hot_waiting=1, cold=1, cold_waiting=2)
    assert fleet.asked[-1][0] == (1, 1)


async def test_who_never_heard_of_the_others_takes_an_eighth_only_at_the_second_lost_call():
    share, _ = share_with(None, None)
    await renew(share, 16, hot_waiting=1)
    assert share.total == 0
    await renew(share, 16, hot_waiting=1)
    assert share.total == 2


def rate_with(clock, *answers, members=4, silent=0):
    fleet = FleetOf(*answers)
    rate = Rate(host="a.example", kind="requests", rate=RATE, hot_share=0.3, fleet=fleet, clock=clock)
    rate.renewed(members, silent=silent, away=False)
    return rate, fleet


async def test_one_lost_call_is_asked_again_and_two_in_a_row_are_redis_away():
    rate, fleet = rate_with(Clock(), None, 5.0, None, None)
    await rate.take(Lane.HOT, 1.0)
    assert len(fleet.asked) == 2
    while rate.try_take(Lane.HOT, 1.0):
        pass
    await rate.take(Lane.HOT, 1.0)
    assert len(fleet.asked) == 4, "then by what this process keeps itself"


@pytest.mark.parametrize(
    ("away", "asked"), [((True,), True), ((True, True), False), ((True, False, True), True)]
)
async def test_renewals_that_were_lost_count_as_well(away, asked):
    rate, fleet = rate_with(Clock(), 5.0)
    for one in away:
        rate.renewed(4, silent=0, away=one)
    await rate.take(Lane.HOT, 1.0)
    assert bool(fleet.asked) is asked


@pytest.mark.parametrize(("silent", "left"), [(0, RATE), (1, RATE * 3 / 4), (3, RATE / 4)])
async def test_who_is_not_heard_keeps_his_share_of_a_rate(silent, left):
    """He may go by it, without Redis; the others would else take the whole beside it."""
    rate, fleet = rate_with(Clock(), 5.0, silent=silent)
    await rate.take(Lane.HOT, 1.0)
    (asked,) = fleet.asked
    assert asked["rate"] == left
    assert asked["burst"] == max(1.0, left * BURST_S)


def test_what_the_fleet_gave_is_not_to_be_had_once_more_alone():
    bucket, own = Bucket(), {"rate": RATE / 4, "burst": RATE / 4 * BURST_S}
    asked = {**own, "floor": 0.0, "want": 5.0, "least": 1.0}
    assert Bucket().take(0.0, **asked) == (5.0, 0.0)
    bucket.took(0.0, 10.0, **own)
    assert bucket.take(0.0, **asked) == (0.0, 1.0 / own["rate"])
    assert bucket.take(0.1, **asked) == (2.0, 0.0), "a tenth of a second's worth"
