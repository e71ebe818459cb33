"""HAProxy's HTTP log (`option httplog` and `option httpslog`), with or without a syslog header. PURE."""

from __future__ import annotations

from scheduler.logs.formats.regex_format import RegexFormat
from scheduler.logs.formats.values import unescape_hash

# client:port [accept] frontend backend/server timers STATUS bytes cookies state counts queues {captured} "…"
HTTP = RegexFormat(
    "haproxy",
    rb"\[(?P<time>\d\d/\w{3}/\d{4}:[\d:.]+)\] \S+ [^ /]+/\S+ [-+\d/]+ (?P<status>-1|\d{3}) \+?\d+ \S+ \S+ "
    rb'\S{4} [-+\d/]+ [\d/]+ (?:\{[^}]*\} ){0,2}(?:[^"]*? )?"(?P<request>[^"]*+)"',
    before=b" ",
    after=b" ",
    unescape=unescape_hash,
    anchored=False,
    line_limit_bytes=64 * 1024,
)
