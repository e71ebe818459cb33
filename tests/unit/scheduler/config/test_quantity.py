"""Numbers for a reader."""

from __future__ import annotations

import pytest

from scheduler.config.quantity import duration, plain_number, size


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (size, 1_795_238_532, "1.8_GB"),
        (size, 900, "900_B"),
        (size, 5_000_000_000_000_000_000, "5_000_PB"),
        (size, -1, "-1_B"),
        (plain_number, 1_795_238_532, "1_795_238_532"),
        (plain_number, 1_795_238_532.5, "1_795_238_532"),
        (plain_number, 0.05, "0.05"),
        (plain_number, 1234.5, "1_234"),
        (duration, 0, "0_s"),
        (duration, 0.0123, "12_ms"),
        (duration, 3600, "60_min"),
        (duration, 180 * 60, "3.0_h"),
        (duration, 1_795_238_532.0, "20778.2_d"),
    ],
)
def test_a_number_is_shown_in_the_unit_that_a_person_would_say(form, value, shown):
    assert form(value).replace("\u202f", "_") == shown
