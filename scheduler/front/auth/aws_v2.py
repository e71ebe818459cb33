"""AWS Signature Version 2 for S3: `Authorization: AWS id:signature`, or AWSAccessKeyId, Expires, Signature.
Pure.

Still what boto3 presigns with by default for us-east-1, so links to `signed` buckets need it. Signed are the
method, Content-MD5, Content-Type, the date, the `x-amz-*` headers, and the path with those parameters that
name a sub-resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import decode_query, query_headers
from scheduler.front.auth.plain_hmac import PlainHmac

if TYPE_CHECKING:
    from scheduler.front.auth.model import SignedRequest

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


def _text(request: SignedRequest, date: str) -> bytes:
    if request.header("authorization") and request.header("x-amz-date"):
        date = ""  # the header itself is signed below
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


def signs(parameter: str) -> bool:
    """Whether a signature covers a parameter of this name; any other one anybody may add to a link."""
    return parameter.encode() in SUB_RESOURCES


def _headers(request: SignedRequest) -> str:
    """The `x-amz-*` headers; in a presigned URL they may stand in the query instead."""
    found = query_headers(request.query)
    found |= {name: request.header(name) for name, _ in request.headers if name.startswith("x-amz-")}
    return "".join(f"{name}:{found[name]}\n" for name in sorted(found))


def _sub_resources(query: bytes) -> bytes:
    parts = []
    for part in query.split(b"&"):
        raw_name, equals, value = part.partition(b"=")
        name = decode_query(raw_name)  # `%61cl` is `acl` to whoever acts on it
        if name in SUB_RESOURCES:
            parts.append((name, name + equals + decode_query(value)))
    text = b"&".join(spelled for _, spelled in sorted(parts))
    return b"?" + text if text else b""


SCHEME = PlainHmac(
    scheme="aws-v2",
    shown="AWS V2",
    word="AWS",
    id_parameter="AWSAccessKeyId",
    date_header="x-amz-date",
    text=_text,
)
