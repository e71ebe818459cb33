"""AWS S3 server access log, also as written by stores that copy its form. PURE."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.logs.formats.object_path import encoded_key, object_path
from scheduler.logs.formats.regex_format import RegexFormat

if TYPE_CHECKING:
    from scheduler.logs.formats.record import LogRecord

#: Operations on the object itself; those on its tags, ACL and the like are no misses.
_OBJECT = re.compile(rb"(?:REST|WEBSITE)\.(?:GET|HEAD|DELETE)\.OBJECT|BATCH\.DELETE\.OBJECT")


def _refine(record: LogRecord, found: re.Match[bytes]) -> LogRecord | None:
    if _OBJECT.fullmatch(found["op"]) is None:
        return replace(record, method="-")
    host = (found["tail"] or b"").split()
    name = host[4].decode("latin-1").lower() if len(host) > 4 else ""
    if found["op"] == b"BATCH.DELETE.OBJECT":
        return replace(record, method="DELETE", path=encoded_key(found["key"]), host=name)
    path = object_path(record.bucket, record.path, host=name, key_field=found["key"])
    return replace(record, path=path, host=name)


S3 = RegexFormat(
    "s3",
    rb"\S+ (?P<bucket>\S+) \[(?P<time>[^\]]*+)\] \S+ \S+ (?P<id>\S+) (?P<op>\S+) (?P<key>\S+) "
    rb'(?:-|"(?P<request>.*?)") (?P<status>\d{3}|-) \S+ \S+ \S+ \S+ \S+ (?:-|"(?P<referer>.*?)") '
    rb'(?:-|"(?P<agent>.*?)") \S+(?: (?P<tail>[^"]*))?',
    before=b" ",
    after=b" ",
    line_limit_bytes=32 * 1024,
    refine=_refine,
)
