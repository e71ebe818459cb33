"""What errors say."""

from __future__ import annotations

import pytest

from workers.errors import described


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no digits"), "ValueError: no digits"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionResetError(104, "reset"), "ConnectionResetError: [Errno 104] reset"),
    ],
)
def test_a_foreign_error_is_told_without_a_colon_that_nothing_follows(error, text):
    assert described(error) == text
