"""Whom of several sentinels is believed."""

from __future__ import annotations

import pytest

from workers.broker.sentinels import MasterUnknown, _latest
from workers.broker_address import Sentinels

SENTINELS = Sentinels(hosts=(("a", 1), ("b", 2), ("c", 3)), master="m")


def state(port, epoch, **more):
    return {
        "ip": "10.0.0.1",
        "port": port,
        "config-epoch": epoch,
        "is_sdown": False,
        "is_odown": False,
        **more,
    }


def test_the_server_of_the_latest_fail_over_counts_whoever_was_asked_first():
    assert _latest(SENTINELS, [state(1, 3), "ConnectionError: refused", state(2, 4)]) == ("10.0.0.1", 2)


def test_a_server_that_is_down_is_nobody():
    answers = [state(1, 9, is_sdown=True), state(1, 9, is_odown=True), state(2, 8)]
    assert _latest(SENTINELS, answers) == ("10.0.0.1", 2)


def test_without_one_the_error_says_what_each_sentinel_answered():
    with pytest.raises(MasterUnknown) as caught:
        _latest(SENTINELS, ["refused", state(1, 9, is_odown=True), "ResponseError: No such master"])
    assert str(caught.value) == (
        "no sentinel names a server of 'm' that is up: a:1: refused; b:2: says that it is down; "
        "c:3: ResponseError: No such master"
    )
