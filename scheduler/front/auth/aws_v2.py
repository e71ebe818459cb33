"""AWS Signature Version 2 for S3: `Authorization: AWS id:signature`, or AWSAccessKeyId, Expires, Signature.
Pure.

Still what boto3 presigns with by default for us-east-1, so links to `signed` buckets need it. Signed are the
method, Content-MD5, Content-Type, the date, the `x-amz-*` headers, and the path with those parameters that
name a sub-resource.
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

SCHEME = "aws-v2"

#: Parameters that belong to the resource, as botocore lists them; `origin` is ours (see `oss_v1`).
# fmt: off
SUB_RESOURCES = frozenset({
    b"accelerate", b"acl", b"analytics", b"cors", b"defaultObjectAcl", b"delete", b"inventory",
    b"lifecycle", b"location", b"logging", b"metrics", b"notification", b"object-lock", b"origin",
    b"partNumber", b"policy", b"replication", b"requestPayment", b"response-cache-control",
    b"response-content-disposition", b"response-content-encoding", b"response-content-language",
    b"response-content-type", b"response-expires", b"restore", b"select", b"select-type",
    b"storageClass", b"tagging", b"torrent", b"uploadId", b"uploads", b"versionId", b"versioning",
    b"versions", b"website",
})
# fmt: on


def claims(request: SignedRequest) -> bool:
    """Whether the request carries a version 2 signature, in the header or in the query."""
    return request.header("authorization").startswith("AWS ") or has_query(request.query, "AWSAccessKeyId")


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature and its time (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied.
    """
    authorization = request.header("authorization")
    if authorization:
        key_id, _, signature = authorization.removeprefix("AWS ").strip().partition(":")
        secret = secret_of(keys, key_id)
        signed_at = http_time(request.header("x-amz-date") or request.header("date"))
        if signed_at is None:
            raise denied("An AWS signature needs a Date or x-amz-date header.")
        require_fresh(signed_at, now)
        # With x-amz-date the date line is empty: the header itself is signed below.
        date = "" if request.header("x-amz-date") else request.header("date")
    else:
        key_id = query_value(request.query, "AWSAccessKeyId") or ""
        signature = query_value(request.query, "Signature") or ""
        date = query_value(request.query, "Expires") or ""
        expires = integer(date)
        secret = secret_of(keys, key_id)
        if expires is None:
            raise denied("Expires must be a Unix time in seconds.")
        require_open(0, expires, now)
    expected = hmac.digest(secret.encode(), _text(request, date), hashlib.sha1)
    require_equal(base64.b64encode(expected), signature, what="AWS V2")
    return Principal(key_id=key_id, scheme=SCHEME)


def _text(request: SignedRequest, date: str) -> bytes:
    head = (
        request.method,
        request.header("content-md5"),
        request.header("content-type"),
        date,
        _headers(request),
    )
    # However the bucket was named, the resource is `/bucket/key`, and `/bucket/` for the bucket itself.
    path = b"/" + request.bucket.encode() + (request.object_path or b"/")
    return "\n".join(head).encode("latin-1") + path + _sub_resources(request.query)


def _headers(request: SignedRequest) -> str:
    """The `x-amz-*` headers; in a presigned URL they may stand in the query instead."""
    found = {name: request.header(name) for name, _ in request.headers if name.startswith("x-amz-")}
    for name, value in query_pairs(request.query):
        decoded = decode_query(name).decode("latin-1")
        if decoded.startswith("x-amz-"):
            found.setdefault(decoded, decode_query(value).decode("latin-1"))
    return "".join(f"{name}:{found[name]}\n" for name in sorted(found))


def _sub_resources(query: bytes) -> bytes:
    parts = []
    for part in query.split(b"&"):
        name, equals, value = part.partition(b"=")
        if name in SUB_RESOURCES:
            parts.append((name, name + equals + decode_query(value)))
    text = b"&".join(spelled for _, spelled in sorted(parts))
    return b"?" + text if text else b""
