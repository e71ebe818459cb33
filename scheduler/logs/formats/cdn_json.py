"""Logs of CDNs and clouds as JSON, each by the names that its vendor gives to the fields. PURE.

Sources: Fastly, "Remote log streaming: example format"; CloudFront, "Use real-time logs" (the names of its
fields, which a transformation on the way makes into the keys of a JSON document); Cloudflare, "Logpush: HTTP
requests"; Google Cloud, "LogEntry: HttpRequest" (load balancers, Cloud CDN, Cloud Run); Azure, "Front Door
access log", "Application Gateway access log"; Akamai, "DataStream 2: data set parameters".
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
CLOUDFLARE = JsonFormat(
    "cloudflare",
    {
        "method": "ClientRequestMethod",
        "target": "ClientRequestURI",
        "path": "ClientRequestPath",
        "host": "ClientRequestHost",
        "scheme": "ClientRequestScheme",
        "status": "EdgeResponseStatus",
        "time": ("EdgeStartTimestamp", "EdgeEndTimestamp"),
        "referer": "ClientRequestReferer",
        "agent": "ClientRequestUserAgent",
        "id": "RayID",
    },
    require=("EdgeResponseStatus",),
)
GOOGLE = JsonFormat(
    "google-cloud",
    {
        "method": "httpRequest.requestMethod",
        "target": "httpRequest.requestUrl",
        "status": "httpRequest.status",
        "time": "timestamp",
        "referer": "httpRequest.referer",
        "agent": "httpRequest.userAgent",
        "id": "insertId",
    },
    require=("httpRequest",),
)
#: `requestUri` is a whole URL at the Front Door and a path at the gateway.
AZURE = JsonFormat(
    "azure",
    {
        "method": "properties.httpMethod",
        "target": "properties.requestUri",
        "query": "properties.requestQuery",
        "host": ("properties.hostName", "properties.originalHost", "properties.host"),
        "status": ("properties.httpStatusCode", "properties.httpStatus"),
        "time": ("time", "timeStamp"),
        "referer": ("properties.referer", "properties.referrer"),
        "agent": "properties.userAgent",
        "id": ("properties.trackingReference", "properties.transactionId"),
    },
    require=("properties", "category"),
)
AKAMAI = JsonFormat(
    "akamai",
    {
        "method": "reqMethod",
        "path": "reqPath",
        "query": "queryStr",
        "host": "reqHost",
        "scheme": "proto",
        "status": "statusCode",
        "time": "reqTimeSec",
        "referer": "referer",
        "agent": "UA",
        "id": "reqId",
    },
    require=("reqPath", "statusCode"),
)
