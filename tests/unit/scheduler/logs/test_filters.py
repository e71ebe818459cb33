"""Which lines are misses, and of what."""

from __future__ import annotations

import pytest

from scheduler.logs.formats.record import LogRecord
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Ignored
from support.logs.filters import filter_of
from workers.errors import ConfigError


def record(path=b"/a.txt", **parts):
    return LogRecord(**({"method": "GET", "status": 404, "path": path} | parts))


@pytest.mark.parametrize(
    ("options", "parts", "expected"),
    [
        ({}, {}, "site/a.txt"),
        ({}, {"status": 200}, "status"),
        ({"statuses": (403, 404)}, {"status": 403}, "site/a.txt"),
        ({}, {"method": "HEAD"}, "method"),
        ({"methods": ("get", "head")}, {"method": "HEAD"}, "site/a.txt"),
        ({}, {"method": "POST"}, "method"),
        ({"strip_prefix": "/files"}, {"path": b"/files/a.txt"}, "site/a.txt"),
        ({"strip_prefix": "/files"}, {"path": b"/other/a.txt"}, "outside_prefix"),
        ({"include": [r"\.txt$"]}, {}, "site/a.txt"),
        ({"include": [r"\.jpg$"]}, {}, "not_included"),
        ({"exclude": [r"^a"]}, {}, "excluded"),
        ({"bots": False}, {"user_agent": "Mozilla (compatible; Googlebot/2.1)"}, "bot"),
        ({"bots": False}, {"user_agent": "Mozilla Firefox"}, "site/a.txt"),
        ({"bots": True}, {"user_agent": "Googlebot/2.1"}, "site/a.txt"),
        ({"bucket": None, "hosts": {"Img.Example": "pics"}}, {"host": "img.example"}, "pics/a.txt"),
        ({"bucket": None, "hosts": {"*.example": "pics"}}, {"host": "a.b.example"}, "pics/a.txt"),
        ({"bucket": None, "hosts": {"img.example": "pics"}}, {"host": "other"}, "no_bucket"),
        ({"bucket": None, "buckets": {"pics": ["img.example"]}}, {"host": "img.example"}, "pics/a.txt"),
        ({"bucket": None, "buckets": {"pics": [], "site": []}}, {"path": b"/pics/d/a"}, "pics/d/a"),
        ({"bucket": None, "buckets": {"pics": [], "site": []}}, {"path": b"/other/d/a"}, "no_bucket"),
        ({"bucket": None, "buckets": {"pics": []}}, {"path": b"/d/a"}, "pics/d/a"),
        ({"bucket": None, "buckets": {"pics": []}}, {"bucket": "pics", "path": b"a"}, "pics/a"),
        ({"bucket": None, "buckets": {"pics": []}}, {"bucket": "other", "path": b"a"}, "no_bucket"),
        ({}, {"bucket": "logged-elsewhere", "path": b"a"}, "site/a"),
    ],
)
def test_a_record_is_a_miss_of_a_key_or_ignored_for_a_reason(options, parts, expected):
    judged = filter_of(**({"bucket": "site"} | options)).judge(record(**parts))
    if isinstance(judged, Ignored):
        assert judged.reason == expected
    else:
        assert isinstance(judged, MissEvent)
        assert f"{judged.bucket}/{judged.key}" == expected


@pytest.mark.parametrize(
    ("parts", "gone"),
    [
        ({"status": 204}, True), ({"status": 200}, True), ({"status": 404}, False), ({"status": 403}, False),
        ({"status": 204, "query": "uploadId=x"}, False), ({"status": 204, "query": "tagging"}, False),
    ],
)  # fmt: skip
def test_only_a_delete_of_the_object_that_succeeded_is_a_tombstone(parts, gone):
    """S15."""
    judged = filter_of(bucket="site").judge(record(method="DELETE", **parts))
    assert isinstance(judged, Deletion) is gone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bucket": "s", "methods": ("PUT",)}, "only GET and HEAD"),
        ({"bucket": "s", "include": ["("]}, "pattern"),
        ({}, "no bucket"),
    ],
)
def test_a_filter_that_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        filter_of(**options)


def test_an_event_keeps_what_rules_and_reports_need():
    event = filter_of(bucket="site").judge(
        record(host="h", scheme="https", query="a=b", referer="r", user_agent="u", at=5.0, id="i")
    )
    assert (event.host, event.scheme, event.query, event.referer, event.user_agent, event.at, event.id) == (
        "h", "https", "a=b", "r", "u", 5.0, "i",
    )  # fmt: skip
