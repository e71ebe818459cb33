"""How often a coordinator looks at its shards."""

from __future__ import annotations

import pytest

from scheduler.scan.shards.cutting import pause_s


@pytest.mark.parametrize(
    ("left", "looked_s", "pause"),
    [
        (40, 0.002, 0.5),
        (16, 0.002, 0.1),  # whoever is idle waits for it
        (1, 0.0, 0.1),
        (1, 0.05, 0.5),  # two thousand records, of which the last is left: a tenth of its time at most
        (40, 0.08, 0.8),
    ],
)
def test_the_last_shards_are_looked_at_more_often_but_never_for_more_than_a_tenth_of_the_time(
    left, looked_s, pause
):
    assert pause_s(left, looked_s) == pytest.approx(pause)
