"""Alibaba OSS access log (real-time and hourly files have the same lines). PURE."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.logs.formats.object_path import encoded_key, object_path
from scheduler.logs.formats.regex_format import RegexFormat

if TYPE_CHECKING:
    from scheduler.logs.formats.record import LogRecord

_OBJECT = re.compile(rb"(?:Get|Head|Delete)Object|DeleteObjects?|DeleteMultipleObjects|ExpireObject|-")


def _refine(record: LogRecord, found: re.Match[bytes]) -> LogRecord | None:
    if _OBJECT.fullmatch(found["op"]) is None:
        return replace(record, method="-")
    if record.method == "POST" or found["op"] == b"ExpireObject":
        return replace(record, method="DELETE", path=encoded_key(found["key"]))
    path = object_path(record.bucket, record.path, host=record.host, key_field=found["key"])
    return replace(record, path=path)


# ip - - [time] "request" status bytes ms "referer" "agent" "host" "id" "flag" "user" "op" "bucket" "key" …
OSS = RegexFormat(
    "oss",
    rb'\S+ \S+ \S+ \[(?P<time>[^\]]*+)\] "(?P<request>(?:[^"\\]|\\.)*+)" (?P<status>\d{3}|-) \S+ \S+ '
    rb'"(?P<referer>(?:[^"\\]|\\.)*+)" "(?P<agent>(?:[^"\\]|\\.)*+)" "(?P<host>[^"]*+)" "(?P<id>[^"]*+)" '
    rb'"[^"]*+" "[^"]*+" "(?P<op>[^"]*+)" "(?P<bucket>[^"]*+)" "(?P<key>[^"]*+)" .*',
    before=b'" ',
    after=b" ",
    delete_needle=b"Delete",
    refine=_refine,
)
