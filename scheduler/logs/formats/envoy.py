"""Envoy: the default text format, and JSON with the names its documentation and Istio use. PURE."""

from __future__ import annotations

from scheduler.logs.formats.generic_json import JsonFormat
from scheduler.logs.formats.regex_format import RegexFormat

# [start] "METHOD path PROTOCOL" code flags … "x-forwarded-for" "agent" "request-id" "authority" "upstream"
DEFAULT = RegexFormat(
    "envoy",
    rb'\[(?P<time>[^\]]*+)\] "(?P<request>[^"]*+)" (?P<status>\d{1,3}) .*?"[^"]*+" "(?P<agent>[^"]*+)" '
    rb'"(?P<id>[^"]*+)" "(?P<host>[^"]*+)" "[^"]*+"(?: .*)?',
    before=b'" ',
    after=b" ",
    line_limit_bytes=32 * 1024,
)

JSON = JsonFormat(
    "envoy-json",
    {
        "method": ("method", ":method"),
        "target": ("path", "x-envoy-original-path", ":path"),
        "host": ("authority", ":authority", "host"),
        "scheme": ("scheme", ":scheme"),
        "status": "response_code",
        "time": ("start_time", "timestamp"),
        "referer": ("referer", "request_referer"),
        "agent": "user_agent",
        "id": "request_id",
    },
    require=("response_code",),
)
