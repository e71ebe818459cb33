"""Load that lasts: which growth is too much, and when a machine was too slow to tell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from lasting.growth import MIB, SAME_SPEED, judge, slope
from lasting.samples import FIXED_WORK

FAST_S = 0.010
#: Samples of an hour, one each half minute; judged is what is left of the last two thirds: 40 minutes.
MOMENTS = [30.0 * n for n in range(121)]


def rows(*, slow=(), **more):
    """An hour on a machine that is as fast as at first, but at the moments `slow`."""
    work = [(at_s, FAST_S * (SAME_SPEED + 0.1 if at_s in slow else 1.0)) for at_s in MOMENTS]
    return {FIXED_WORK: work, **{name.replace("_", " "): values for name, values in more.items()}}


def growing(middle, an_hour):
    return [(at_s, middle + an_hour * (at_s - 2400) / 3600) for at_s in MOMENTS]


def verdicts(capsys):
    """By row, its last word."""
    lines = capsys.readouterr().out.splitlines()
    return {line[:44].strip(): line.split()[-1] for line in lines if line.endswith(("ok", "EXCEEDED"))}


# A tenth of 200 MiB and 8 MiB in 40 minutes are 42 MiB an hour; half of 10 ms and 20 ms are 37.5 ms an hour.
@pytest.mark.parametrize(
    ("name", "values", "word"),
    [
        ("front_memory", growing(200 * MIB, 41 * MIB), "ok"),
        ("front_memory", growing(200 * MIB, 43 * MIB), "EXCEEDED"),
        ("front_memory", growing(200 * MIB, -500 * MIB), "ok"),
        ("hit_latency", growing(0.010, 0.037), "ok"),
        ("hit_latency", growing(0.010, 0.038), "EXCEEDED"),
        ("front_descriptors", growing(100, 43), "ok"),
        ("front_descriptors", growing(100, 44), "EXCEEDED"),
    ],
)
def test_a_row_may_grow_by_its_bound_and_no_more(capsys, name, values, word):
    exceeded = judge(rows(**{name: values}), fixed_work_s=FAST_S, busy=False)
    assert exceeded == (word == "EXCEEDED")
    assert verdicts(capsys) == {name.replace("_", " "): word}


def test_what_takes_time_is_judged_while_the_machine_is_as_fast_as_at_first(capsys):
    slow = {at_s for at_s in MOMENTS if at_s % 120 == 60}
    latency = [(at_s, 0.500 if at_s in slow else 0.010) for at_s in MOMENTS]
    assert judge(rows(slow=slow, hit_latency=latency), fixed_work_s=FAST_S, busy=False) == 0
    assert verdicts(capsys) == {"hit latency": "ok"}


def test_a_machine_that_is_slower_most_of_the_time_shows_nothing_and_that_is_said(capsys):
    found = rows(slow=set(MOMENTS[50:]), hit_latency=growing(0.010, 1.0), front_memory=growing(200 * MIB, 0))
    assert judge(found, fixed_work_s=FAST_S, busy=False) == 1
    said = capsys.readouterr().out
    assert "machine as fast as when the rate was found out: 10 of 81 samples" in said
    assert "what takes time is not judged: the machine was slower for most of the time: EXCEEDED" in said


def test_on_a_machine_that_others_use_time_is_shown_and_memory_judged(capsys):
    found = rows(
        slow=set(MOMENTS), hit_latency=growing(0.010, 1.0), front_memory=growing(200 * MIB, 43 * MIB)
    )
    assert judge(found, fixed_work_s=FAST_S, busy=True) == 1
    assert verdicts(capsys) == {"hit latency": "EXCEEDED", "front memory": "EXCEEDED"}


def test_a_few_samples_out_of_line_make_no_slope():
    steady = [(at_s, 7.0) for at_s in MOMENTS]
    steady[60], steady[90], steady[-1] = (1800.0, 900.0), (2700.0, 500.0), (3600.0, 5000.0)
    assert slope(steady) == 0.0
    assert slope([(at_s, at_s / 10) for at_s in MOMENTS]) == pytest.approx(0.1)
