"""The bound that a sample states."""

from __future__ import annotations

import pytest

from scheduler.scan.verify.bound import upper_bound


@pytest.mark.parametrize(
    ("sampled", "bad", "want"),
    [
        # Exact Clopper-Pearson upper limits at 99 % (one-sided), from tables.
        (10, 0, 0.369043),
        (100, 0, 0.045007),
        (1000, 0, 0.004594582),
        (100, 1, 0.064552),
        (1000, 5, 0.0130628),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_bound_is_the_exact_binomial_one(sampled, bad, want):
    assert upper_bound(sampled, bad) == pytest.approx(want, rel=2e-3)
