"""Alibaba OSS version 1: `Authorization: OSS id:signature`, or OSSAccessKeyId, Expires, Signature in the
query. Pure.

Signed are the method, Content-MD5, Content-Type, the date, the `x-oss-*` headers, and the resource with those
parameters that name a sub-resource.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from scheduler.front.auth.encoding import (
    decode_query,
    has_query,
    http_time,
    integer,
    query_pairs,
    query_value,
)
from scheduler.front.auth.model import (
    Keyring,
    Principal,
    SignedRequest,
    denied,
    require_equal,
    require_fresh,
    require_open,
    secret_of,
)

SCHEME = "oss-v1"

#: Parameters that belong to the resource, as the two Python SDKs and the manual list them; `origin` is ours,
#: so that a signature for a bucket is none for its rules.
# fmt: off
SUB_RESOURCES = frozenset({
    b"accessPoint", b"accessPointPolicy", b"accessPointPublicAccessBlock", b"acl", b"append",
    b"asyncFetch", b"bucketArchiveDirectRead", b"bucketInfo", b"callback", b"callback-var",
    b"cloudboxes", b"cname", b"comp", b"continuation-token", b"cors", b"delete", b"encryption",
    b"endTime", b"group", b"httpsConfig", b"img", b"inventory", b"inventoryId", b"lifecycle", b"link",
    b"live", b"location", b"logging", b"metaQuery", b"objectInfo", b"objectMeta", b"origin",
    b"partNumber", b"policy", b"policyStatus", b"position", b"publicAccessBlock", b"qos", b"qosInfo",
    b"qosRequester", b"redundancyTransition", b"referer", b"regionList", b"replication",
    b"replicationLocation", b"replicationProgress", b"requestPayment", b"requesterQosInfo",
    b"resourceGroup", b"resourcePool", b"resourcePoolBuckets", b"resourcePoolInfo",
    b"response-cache-control", b"response-content-disposition", b"response-content-encoding",
    b"response-content-language", b"response-content-type", b"response-expires", b"restore",
    b"security-token", b"sequential", b"startTime", b"stat", b"status", b"style", b"styleName",
    b"symlink", b"tagging", b"transferAcceleration", b"uploadId", b"uploads", b"versionId",
    b"versioning", b"versions", b"vod", b"website", b"worm", b"wormExtend", b"wormId",
    b"x-oss-ac-forward-allow", b"x-oss-ac-source-ip", b"x-oss-ac-subnet-mask", b"x-oss-ac-vpc-id",
    b"x-oss-access-point-name", b"x-oss-async-process", b"x-oss-process",
    b"x-oss-redundancy-transition-taskid", b"x-oss-request-payer", b"x-oss-target-redundancy-type",
    b"x-oss-traffic-limit", b"x-oss-write-get-object-response",
})
# fmt: on


def claims(request: SignedRequest) -> bool:
    """Whether the request carries an OSS version 1 signature, in the header or in the query."""
    return request.header("authorization").startswith("OSS ") or has_query(request.query, "OSSAccessKeyId")


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature and its time (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied.
    """
    authorization = request.header("authorization")
    if authorization:
        key_id, _, signature = authorization.removeprefix("OSS ").strip().partition(":")
        date = request.header("x-oss-date") or request.header("date")
        signed_at = http_time(date)
        secret = secret_of(keys, key_id)
        if signed_at is None:
            raise denied("An OSS signature needs a Date or x-oss-date header.")
        require_fresh(signed_at, now)
    else:
        key_id = query_value(request.query, "OSSAccessKeyId") or ""
        signature = query_value(request.query, "Signature") or ""
        date = query_value(request.query, "Expires") or ""
        expires = integer(date)
        secret = secret_of(keys, key_id)
        if expires is None:
            raise denied("Expires must be a Unix time in seconds.")
        require_open(0, expires, now)
    expected = hmac.digest(secret.encode(), _text(request, date), hashlib.sha1)
    require_equal(base64.b64encode(expected), signature, what="OSS V1")
    return Principal(key_id=key_id, scheme=SCHEME)


def _text(request: SignedRequest, date: str) -> bytes:
    names = sorted({name for name, _ in request.headers if name.startswith("x-oss-")})
    headers = "".join(f"{name}:{request.header(name)}\n" for name in names)
    head = (request.method, request.header("content-md5"), request.header("content-type"), date, headers)
    return "\n".join(head).encode("latin-1") + request.resource() + _sub_resources(request.query)


def _sub_resources(query: bytes) -> bytes:
    found = []
    for name, value in query_pairs(query):
        decoded = decode_query(name)
        if decoded in SUB_RESOURCES:
            found.append((decoded, decode_query(value)))
    text = b"&".join(name + b"=" + value if value else name for name, value in sorted(found))
    return b"?" + text if text else b""
