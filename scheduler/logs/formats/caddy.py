"""Caddy's JSON access log. PURE."""

from __future__ import annotations

from scheduler.logs.formats.generic_json import JsonFormat

JSON = JsonFormat(
    "caddy",
    {
        "method": "request.method",
        "target": "request.uri",
        "host": "request.host",
        "status": "status",
        "time": "ts",
        "referer": "request.headers.Referer",
        "agent": "request.headers.User-Agent",
    },
    require=("request", "status", "logger"),
)
