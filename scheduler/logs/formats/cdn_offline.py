"""Logs that CDNs let one fetch: Alibaba Cloud's, Tencent Cloud's, Huawei Cloud's and bunny.net's. PURE.

Sources: "Offline log field descriptions" (Alibaba Cloud CDN), "Log Service" (Tencent Cloud CDN, 16 fields),
"Log Management" (Huawei Cloud CDN), "Logging API v1" (bunny.net; it says no method). All give what clients
were answered by the edge, so a 404 stands for what the origin behind it said.
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

# HIT|status|unix_ms|bytes|pull_zone|client|referer|url|edge|agent|request_id|country
BUNNY = RegexFormat(
    "bunny",
    rb"[A-Z_-]+\|(?P<status>\d{3})\|(?P<time>\d{10,13})\|\d+\|\d+\|[^|]*+\|(?P<referer>.*?)\|"
    rb"(?P<target>https?://[^/|]++.*?)\|[A-Za-z0-9_-]*+\|(?P<agent>.*)\|(?P<id>[0-9a-zA-Z-]*+)\|[A-Za-z-]*+",
    before=b"|",
    after=b"|",
    unescape=unescape_none,
)

# [time] ms client bytes "referer" "protocol" "method" "host" "target" status size HIT "agent" "range" server
HUAWEI = RegexFormat(
    "huawei-cdn",
    rb'\[(?P<time>[^\]]*+)\] \d+ \S+ \S+ "(?P<referer>[^"]*+)" "[^"]*+" "(?P<method>[A-Z]+)" '
    rb'"(?P<host>[^"]*+)" "(?P<target>/[^"]*+)" (?P<status>\d{3}) \d+ \w+ "(?P<agent>.*)" "[^"]*+" \S+.*',
    before=b'" ',
    after=b" ",
    unescape=unescape_none,
)
