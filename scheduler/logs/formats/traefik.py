"""Traefik's access log: common (its own extension of CLF) and JSON. PURE."""

from __future__ import annotations

from scheduler.logs.formats.generic_json import JsonFormat
from scheduler.logs.formats.regex_format import RegexFormat

COMMON = RegexFormat(
    "traefik",
    rb'\S+ - (?:.*?) \[(?P<time>[^\]]*+)\] "(?P<request>(?:[^"\\]|\\.)*+)" (?P<status>\d{3}|-) \S+ '
    rb'"(?P<referer>(?:[^"\\]|\\.)*+)" "(?P<agent>(?:[^"\\]|\\.)*+)" \d+ "[^"]*+" "[^"]*+" \d+ms',
    before=b'" ',
    after=b" ",
)

JSON = JsonFormat(
    "traefik-json",
    {
        "method": "RequestMethod",
        "target": "RequestPath",
        "host": "RequestHost",
        "scheme": "RequestScheme",
        "status": "DownstreamStatus",
        "time": ("StartUTC", "time"),
        "referer": "request_Referer",
        "agent": "request_User-Agent",
    },
    require=("DownstreamStatus", "RequestPath"),
)
