"""Error answers in the form that S3, COS and OSS clients all read (SEMANTICS.md section 5).

Owns the XML document, the table of codes that the front uses and the headers that go with them. Pure; knows
no request and no rule. An answer never names an address inside the network: messages are fixed texts, and the
reason of a failed pull is a constant of `workers.errors`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What XML 1.0 cannot carry, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: `HostId` of every answer when the caller has none: clients drop the details of an error without it.
DEFAULT_HOST_ID = "ferryman"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Error:
    """One kind of refusal: HTTP status, S3 code and a text that a client may see."""

    status: int
    code: str
    message: str


ACCESS_DENIED = S3Error(status=403, code="AccessDenied", message="Access denied.")
BAD_REQUEST = S3Error(status=400, code="BadRequest", message="The request is not valid HTTP.")
HEADERS_TOO_LARGE = S3Error(
    status=431,
    code="RequestHeaderSectionTooLarge",
    message="The request line and headers are larger than this gateway accepts.",
)
INTERNAL_ERROR = S3Error(status=500, code="InternalError", message="The gateway met an unexpected condition.")
INVALID_ARGUMENT = S3Error(
    status=400, code="InvalidArgument", message="An argument of the request is invalid."
)
INVALID_RANGE = S3Error(status=416, code="InvalidRange", message="The requested range is not satisfiable.")
INVALID_URI = S3Error(status=400, code="InvalidURI", message="The path does not name an object.")
KEY_TOO_LONG = S3Error(status=400, code="KeyTooLongError", message="A key has at most 1024 bytes of UTF-8.")
LOOP_DETECTED = S3Error(
    status=508,
    code="LoopDetected",
    message="The request came back to this gateway: an origin of the rule leads here.",
)
METHOD_NOT_ALLOWED = S3Error(
    status=405,
    code="MethodNotAllowed",
    message="Without a signature GET and HEAD are served; to write, sign with one of gateway.access_keys.",
)
MIRROR_FAILED = S3Error(
    status=424, code="MirrorFailed", message="The object could not be fetched from the origin."
)
NO_SUCH_BUCKET = S3Error(status=404, code="NoSuchBucket", message="The specified bucket does not exist.")
NO_SUCH_KEY = S3Error(status=404, code="NoSuchKey", message="The specified key does not exist.")
PRECONDITION_FAILED = S3Error(
    status=412,
    code="PreconditionFailed",
    message="At least one of the preconditions that you specified did not hold.",
)
REQUEST_TIMEOUT = S3Error(status=408, code="RequestTimeout", message="The request did not arrive in time.")
SERVICE_UNAVAILABLE = S3Error(
    status=503,
    code="ServiceUnavailable",
    message="The store does not answer. Please try again.",
)
SLOW_DOWN = S3Error(status=503, code="SlowDown", message="Please reduce your request rate.")
URI_TOO_LONG = S3Error(status=414, code="RequestURITooLong", message="The request target is too long.")


def new_request_id() -> str:
    """A fresh id of 24 upper-case hex digits, the length that the vendors' clients show whole."""
    return os.urandom(12).hex().upper()


def error_document(
    code: str,
    message: str,
    *,
    resource: str,
    request_id: str,
    host_id: str = DEFAULT_HOST_ID,
    details: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The error document as UTF-8 bytes, in the element order of SEMANTICS.md section 5, without a namespace.

    An empty `resource` becomes `/`: the COS SDK drops every detail of an answer with an empty Resource or
    RequestId. `details` are further (element, text) pairs behind the fixed ones.
    """
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>',
        _element("Code", code),
        _element("Message", message),
        _element("Resource", resource or "/"),
        _element("RequestId", request_id),
        _element("TraceId", request_id),
        _element("HostId", host_id or DEFAULT_HOST_ID),
        *(_element(name, text) for name, text in details),
        "</Error>",
    ]
    return "".join(parts).encode()


def request_id_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    """The same id under the three names that the vendors' clients look for."""
    raw = request_id.encode("ascii")
    return [(b"x-amz-request-id", raw), (b"x-cos-request-id", raw), (b"x-oss-request-id", raw)]


def error_answer(
    error: S3Error,
    *,
    resource: str,
    request_id: str,
    message: str = "",
    headers: Iterable[tuple[bytes, bytes]] = (),
    details: Iterable[tuple[str, str]] = (),
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error; for HEAD the caller leaves the body out."""
    body = error_document(
        error.code, message or error.message, resource=resource, request_id=request_id, details=details
    )
    head = [
        (b"content-type", b"application/xml"),
        (b"content-length", b"%d" % len(body)),
        *request_id_headers(request_id),
        *headers,
    ]
    return error.status, head, body


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(_NOT_XML.sub('�', text))}</{name}>"
