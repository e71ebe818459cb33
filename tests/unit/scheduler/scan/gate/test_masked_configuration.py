"""The configuration in a report holds no password."""

from __future__ import annotations

import pytest

from scheduler.scan.gate.finalize import _masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:word@o.example/a?sig=1", "https://o.example/a?**********"),
        ("http://user:wo[rd@o.example/", "**********"),
        ("plain", "plain"),
    ],
)
def test_a_url_in_a_report_shows_no_password_also_when_it_is_none(value, shown):
    assert _masked({"url": [value]}) == {"url": [shown]}
