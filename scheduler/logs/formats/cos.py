"""Tencent COS access log: fields separated by a space, in a fixed order. PURE."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.logs.formats.object_path import object_path
from scheduler.logs.formats.regex_format import RegexFormat

if TYPE_CHECKING:
    import re

    from scheduler.logs.formats.record import LogRecord

#: What an event says the method was. A line that says two different things is damaged: a DELETE that is none
#: would be a deletion.
_METHODS = {
    b"GetObject": {"GET"},
    b"HeadObject": {"HEAD"},
    b"DeleteObject": {"DELETE"},
    b"-": {"GET", "HEAD"},
}


def _refine(record: LogRecord, found: re.Match[bytes]) -> LogRecord:
    if record.method not in _METHODS.get(found["op"], ()):
        return replace(record, method="-")
    path = object_path(record.bucket, record.path, host=record.host, key_field=b"")
    return replace(record, path=path)


# version bucket region time host event ip keyid reserved sent delta path method agent status code message …
COS = RegexFormat(
    "cos",
    rb"\d\.\d (?P<bucket>\S+) \S+ (?P<time>\d{4}-\d\d-\d\dT\S+) (?P<host>\S+) (?P<op>\S+) \S+ \S+ \S+ "
    rb"\S+ \S+ "
    rb"(?P<path>\S+) (?P<method>[A-Za-z]+) (?P<agent>.*?) (?P<status>\d{3}) \S+ .*",
    before=b" ",
    after=b" ",
    delete_needle=b"DeleteObject",
    line_limit_bytes=32 * 1024,
    refine=_refine,
)
