"""Alibaba OSS version 1: `Authorization: OSS id:signature`, or OSSAccessKeyId, Expires, Signature in the
query. Pure.

Signed are the method, Content-MD5, Content-Type, the date, the `x-oss-*` headers, and the resource with those
parameters that name a sub-resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import decode_query, query_pairs
from scheduler.front.auth.plain_hmac import PlainHmac

if TYPE_CHECKING:
    from scheduler.front.auth.model import SignedRequest

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


SCHEME = PlainHmac(
    scheme="oss-v1",
    shown="OSS V1",
    word="OSS",
    id_parameter="OSSAccessKeyId",
    date_header="x-oss-date",
    text=_text,
)
