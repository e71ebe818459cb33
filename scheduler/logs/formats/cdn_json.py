"""Real-time logs of CDNs as JSON: Fastly's example format, and CloudFront's from a delivery stream. PURE.

Sources: Fastly, "Remote log streaming: example format"; CloudFront, "Use real-time logs" (the names of its
fields, which a transformation on the way makes into the keys of a JSON document).
"""

from __future__ import annotations

from scheduler.logs.formats.generic_json import JsonFormat

FASTLY = JsonFormat(
    "fastly",
    {
        "method": "request_method",
        "target": "url",
        "host": "host",
        "status": "response_status",
        "time": "timestamp",
        "referer": "request_referer",
        "agent": "request_user_agent",
    },
    require=("response_status", "request_method", "url", "fastly_server"),
)
CLOUDFRONT = JsonFormat(
    "cloudfront-json",
    {
        "method": "cs-method",
        "target": "cs-uri-stem",
        "query": "cs-uri-query",
        "host": ("x-host-header", "cs-host"),
        "scheme": "cs-protocol",
        "status": "sc-status",
        "time": "timestamp",
        "referer": "cs-referer",
        "agent": "cs-user-agent",
        "id": "x-edge-request-id",
    },
    require=("sc-status", "cs-uri-stem"),
)
