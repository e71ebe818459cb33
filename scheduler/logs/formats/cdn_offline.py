"""Offline logs of Alibaba Cloud CDN and of Tencent Cloud CDN. PURE.

Sources: "Offline log field descriptions" (Alibaba Cloud CDN), "Log Service" (Tencent Cloud CDN, 16 fields).
Both give what clients were answered by the edge, so a 404 stands for what the origin behind it said.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scheduler.logs.formats.regex_format import RegexFormat
from scheduler.logs.formats.values import split_target, unescape_none

if TYPE_CHECKING:
    import re

    from scheduler.logs.formats.record import LogRecord

#: Tencent writes its times without a zone; they are those of Beijing.
_BEIJING = timedelta(hours=8)


def _ali(record: LogRecord, found: re.Match[bytes]) -> LogRecord:
    """The request is a method and a whole URL, without the protocol's version."""
    path, query, host, scheme = split_target(found["url"])
    return replace(record, path=path, query=query, host=host, scheme=scheme)


# [time] client proxy ms "referer" "METHOD URL" status request_bytes response_bytes HIT "agent" "type" …
ALIBABA = RegexFormat(
    "alibaba-cdn",
    rb'\[(?P<time>[^\]]*+)\] \S+ \S+ \d+ "(?P<referer>(?:[^"\\]|\\.)*+)" '
    rb'"(?P<method>[A-Z]+) (?P<url>https?://[^"]*+)" (?P<status>\d{3}) '
    rb'\d+ \d+ \w+ "(?P<agent>(?:[^"\\]|\\.)*+)"(?: .*)?',
    before=b'" ',
    after=b" ",
    unescape=unescape_none,
    refine=_ali,
)


def _tencent(record: LogRecord, found: re.Match[bytes]) -> LogRecord | None:
    try:
        local = datetime.strptime(found["local"].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    referer = "" if record.referer == "NULL" else record.referer
    return replace(record, at=(local - _BEIJING).timestamp(), referer=referer)


# time client domain path bytes province isp status referer ms "agent" "range" method protocol hit port
TENCENT = RegexFormat(
    "tencent-cdn",
    rb"(?P<local>\d{14}) \S+ (?P<host>[^\s/]+) (?P<target>/\S*+) \d+ -?\d+ -?\d+ (?P<status>\d{3}) "
    rb'(?P<referer>\S+) \d+ "(?P<agent>(?:[^"\\]|\\.)*+)" "?[^"]*?"? '
    rb"(?P<method>[A-Z]+) HTTPS?/\S+ \w+(?: \S+)*",
    before=b" ",
    after=b" ",
    unescape=unescape_none,
    refine=_tencent,
)
