"""HTTP dates of strangers: read where they name a moment, never an exception."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.http.dates import http_date, http_seconds

MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
def test_all_forms_of_a_date_name_the_same_moment(text):
    assert http_date(text) == MOMENT
    assert http_seconds(text) == MOMENT.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "yesterday",
        "Thu, 01 Jan 19788888888888 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 +99999999999999",
        "Thu, 32 Jan 1970 00:00:00 GMT",
    ],
)
def test_what_names_no_moment_is_none(text):
    assert http_date(text) is None
    assert http_seconds(text) is None


@given(st.text(alphabet="0123456789 ,:+-GMTJanMonThu", max_size=60))
def test_no_text_breaks_the_reader(text):
    moment = http_date(text)
    assert moment is None or moment.tzinfo is not None
