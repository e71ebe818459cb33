"""What statuses mean (B4, B5, A4) and when a body may be continued (B6)."""

from datetime import UTC, datetime

import pytest

from workers.errors import OriginPartial, OriginStatus, OriginThrottled
from workers.origin.fetch.failover import (
    ContentRange,
    Verdict,
    all_say_absent,
    judge,
    parse_content_range,
    parse_retry_after,
    status_error,
)
from workers.origin.fetch.resume import resumption, strong_validator
from workers.plan import FetchPlan, Origin, OriginGroup, RedirectPolicy

GROUPS = (OriginGroup(primary=Origin(host="o")),)
PLAIN = FetchPlan(bucket="b", rule="r", groups=GROUPS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "plan", "verdict"),
    [
        (200, {}, Verdict.SUCCESS),
        (204, {}, Verdict.FINAL),
        (206, {}, Verdict.FINAL),
        (301, {}, Verdict.REDIRECT),
        (300, {}, Verdict.FINAL),
        (300, {"redirects": RedirectPolicy(follow=False)}, Verdict.REDIRECT),
        (304, {}, Verdict.FINAL),
        (304, {"redirects": RedirectPolicy(follow=False)}, Verdict.FINAL),
        (305, {}, Verdict.FINAL),
        (304, {"switch_all": True}, Verdict.SWITCH),
        (304, {"switch_codes": (304,)}, Verdict.SWITCH),
        (400, {}, Verdict.FINAL),
        (403, {}, Verdict.FINAL),
        (403, {"switch_codes": (403,)}, Verdict.SWITCH),
        (403, {"switch_all": True}, Verdict.SWITCH),
        (404, {}, Verdict.ABSENT),
        (404, {"switch_codes": (404,)}, Verdict.SWITCH),
        (404, {"switch_all": True}, Verdict.ABSENT),
        (410, {}, Verdict.FINAL),
        (429, {}, Verdict.FINAL),
        (429, {"switch_codes": (429,)}, Verdict.SWITCH),
        (500, {}, Verdict.SWITCH),
        (503, {}, Verdict.SWITCH),
        (599, {}, Verdict.SWITCH),
        (204, {"switch_all": True}, Verdict.SWITCH),
    ],
)
def test_a_status_switches_ends_or_succeeds(status, plan, verdict):
    """B4, B5, A9."""
    made = FetchPlan(bucket="b", rule="r", groups=GROUPS, **plan)
    assert judge(status, made, part=None, range_asked=False) is verdict


@pytest.mark.parametrize(
    ("part", "asked", "verdict"),
    [
        (ContentRange(0, 99, 100), False, Verdict.SUCCESS),
        (ContentRange(0, 9, 100), False, Verdict.FINAL),
        (ContentRange(0, 99, None), False, Verdict.FINAL),
        (ContentRange(0, 9, 100), True, Verdict.SUCCESS),
        (None, True, Verdict.FINAL),
    ],
)
def test_a_206_is_a_success_only_where_it_covers_all_or_was_asked_for(part, asked, verdict):
    """A4, A15, P6."""
    assert judge(206, PLAIN, part=part, range_asked=asked) is verdict


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (None, Verdict.SUCCESS),
        (ContentRange(0, 99, 100), Verdict.SUCCESS),
        (ContentRange(0, 9, 100), Verdict.FINAL),
        (ContentRange(10, 99, 100), Verdict.FINAL),
        (ContentRange(0, 9, None), Verdict.FINAL),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_a_200_with_the_content_range_of_a_part_is_no_success(part, asked, verdict):
    """A4."""
    assert judge(200, PLAIN, part=part, range_asked=asked) is verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/100", ContentRange(0, 9, 100)),
        ("Bytes 0-9/*", ContentRange(0, 9, None)),
        ("bytes 5-4/100", None),
        ("bytes 0-100/100", None),
        ("bytes */100", None),
        ("items 0-9/100", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range_is_read_strictly(text, expected):
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    """B8."""
    assert parse_retry_after(text, NOW) == seconds


def test_throttling_is_told_from_failing():
    assert isinstance(status_error(429, "o", retry_after=None), OriginThrottled)
    throttled = status_error(503, "o", retry_after="7")
    assert isinstance(throttled, OriginThrottled)
    assert throttled.retry_after_s == 7.0
    assert type(status_error(503, "o", retry_after=None)) is OriginStatus
    assert isinstance(status_error(206, "o", retry_after=None), OriginPartial)


@pytest.mark.parametrize(
    ("statuses", "absent"),
    [
        ([404], True),
        ([404, 404], True),
        ([410, 404], True),
        ([404, 410], False),
        ([500, 404], False),
        ([None, 404], False),
        ([], False),
    ],
)
def test_absent_needs_the_word_of_everybody_who_was_asked(statuses, absent):
    """B5."""
    assert all_say_absent(statuses) is absent


OLD = ("Last-Modified", "Wed, 31 Dec 2025 23:58:59 GMT")
YOUNG = ("Last-Modified", "Wed, 31 Dec 2025 23:59:30 GMT")
DATE = ("Date", "Thu, 01 Jan 2026 00:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ((("ETag", '"a"'), OLD, DATE), '"a"'),
        ((("ETag", 'W/"a"'), OLD, DATE), OLD[1]),
        ((("ETag", "a"), YOUNG, DATE), None),
        ((OLD,), None),
        ((("Last-Modified", "yesterday"), DATE), None),
        ((("ETag", '""'),), None),
    ],
)
def test_only_a_strong_validator_continues_a_body(headers, validator):
    """B6."""
    assert strong_validator(headers) == validator


def test_a_continuation_must_be_exactly_the_missing_part_of_the_same_object():
    """B6."""
    plan = resumption(200, (("ETag", '"a"'),), 100)
    assert plan is not None
    assert plan.request(40) == [("Range", "bytes=40-99"), ("If-Range", '"a"')]
    good = (("Content-Range", "bytes 40-99/100"), ("ETag", '"a"'))
    assert plan.continues(206, good, 40)
    assert not plan.continues(200, good, 40)
    assert not plan.continues(206, (("Content-Range", "bytes 41-99/100"),), 40)
    assert not plan.continues(206, (("Content-Range", "bytes 40-98/100"),), 40)
    assert not plan.continues(206, (("Content-Range", "bytes 40-99/101"),), 40)
    assert not plan.continues(206, (("Content-Range", "bytes 40-99/100"), ("ETag", '"b"')), 40)


def test_a_range_is_continued_within_its_own_bounds():
    headers = (("ETag", '"a"'), ("Content-Range", "bytes 10-19/100"))
    plan = resumption(206, headers, 10)
    assert plan is not None
    assert plan.request(4)[0] == ("Range", "bytes=14-19")
    assert plan.continues(206, (("Content-Range", "bytes 14-19/100"),), 4)


@pytest.mark.parametrize(
    ("status", "headers", "length"),
    [
        (200, (("ETag", '"a"'),), None),
        (200, (), 100),
        (200, (("ETag", '"a"'), ("Accept-Ranges", "none")), 100),
        (206, (("ETag", '"a"'), ("Content-Range", "bytes 0-9/*")), 10),
    ],
)
def test_what_cannot_be_checked_is_not_continued(status, headers, length):
    assert resumption(status, headers, length) is None
