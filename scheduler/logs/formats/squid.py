"""Squid's native access log, as a reverse proxy writes it. PURE.

Source: "Features/LogFormat" (`squid`). URLs stand as they were asked for, by default without their query.
"""

from __future__ import annotations

from scheduler.logs.formats.regex_format import RegexFormat
from scheduler.logs.formats.values import unescape_none

# seconds.ms elapsed client RESULT/status bytes method URL user HIERARCHY/peer type
NATIVE = RegexFormat(
    "squid",
    rb"(?P<time>\d{9,11}\.\d{3}) +\d+ \S+ [A-Z_]+/(?P<status>\d{3}) \d+ (?P<method>[A-Z]+) "
    rb"(?P<target>https?://\S++) \S+ [A-Z_]+/\S+ \S+(?: .*)?",
    before=b"/",
    after=b" ",
    unescape=unescape_none,
)
