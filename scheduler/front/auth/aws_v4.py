"""AWS Signature Version 4 for S3: `AWS4-HMAC-SHA256` in the Authorization header, or presigned in the query.
Pure.

Signed are the method, the path as sent, the whole query, the headers that the client lists (Host must be one)
and the payload: its SHA-256, or the word UNSIGNED-PAYLOAD.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import (
    compact_time,
    decode_query,
    encode,
    fields,
    has_query,
    http_time,
    integer,
    query_pairs,
    query_value,
    respell_path,
)
from scheduler.front.auth.model import (
    AuthError,
    Keyring,
    Principal,
    SignedRequest,
    denied,
    listed_names,
    require_equal,
    require_fresh,
    require_open,
    secret_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "aws-v4"
ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_MAX_EXPIRES_S = 7 * 24 * 3600


def claims(request: SignedRequest) -> bool:
    """Whether the request carries a version 4 signature, in the header or in the query."""
    return request.header("authorization").startswith(ALGORITHM) or has_query(
        request.query, "X-Amz-Algorithm"
    )


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature, its time and the payload hash against the body (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied,
            InvalidArgument, XAmzContentSHA256Mismatch, and NotImplemented for chunk-signed bodies that were
            read whole.
    """
    in_header = bool(request.header("authorization"))
    if in_header:
        given = fields(request.header("authorization").removeprefix(ALGORITHM), ",")
        credential, signature = given.get("Credential", ""), given.get("Signature", "")
        listed = given.get("SignedHeaders", "")
        date = request.header("x-amz-date")
        signed_at = compact_time(date) if date else http_time(request.header("date"))
    else:
        if query_value(request.query, "X-Amz-Algorithm") != ALGORITHM:
            raise AuthError(400, "InvalidArgument", f"X-Amz-Algorithm must be {ALGORITHM}.")
        credential = query_value(request.query, "X-Amz-Credential") or ""
        signature = query_value(request.query, "X-Amz-Signature") or ""
        listed = query_value(request.query, "X-Amz-SignedHeaders") or ""
        date = query_value(request.query, "X-Amz-Date") or ""
        signed_at = compact_time(date)
    # A key id may itself contain a slash; the scope is the last four parts.
    key_id, *parts = credential.rsplit("/", 4)
    secret = secret_of(keys, key_id)
    if signed_at is None or len(parts) != 4 or parts[2:] != ["s3", "aws4_request"]:
        raise denied("The signature needs a date and Credential=id/date/region/s3/aws4_request.")
    stamp = date or _compact(signed_at)
    if parts[0] != stamp[:8]:
        raise denied("The date in Credential is not the date of the request.")
    if "host" not in listed_names(listed):
        raise denied("Host must be one of the signed headers.")
    if in_header:
        require_fresh(signed_at, now)
    else:
        expires = integer(query_value(request.query, "X-Amz-Expires"))
        if expires is None or not 1 <= expires <= _MAX_EXPIRES_S:
            raise AuthError(400, "InvalidArgument", f"X-Amz-Expires must be 1 to {_MAX_EXPIRES_S} seconds.")
        require_open(signed_at, signed_at + expires, now)

    payload = _payload(request, in_header=in_header)
    key = _signing_key(secret, parts)
    wanted = ""
    for path, query in _spellings(request):
        text = _canonical(request, path, query, listed, payload)
        to_sign = f"{ALGORITHM}\n{stamp}\n{'/'.join(parts)}\n{hashlib.sha256(text).hexdigest()}"
        wanted = hmac.digest(key, to_sign.encode("latin-1"), hashlib.sha256).hex()
        if hmac.compare_digest(wanted.encode(), signature.encode("latin-1", "replace")):
            break
    require_equal(wanted, signature, what="AWS V4")
    return Principal(key_id=key_id, scheme=SCHEME)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySignature:
    """What a verified request says of its body."""

    #: SHA-256 in hex, `UNSIGNED-PAYLOAD`, or one of the `STREAMING-…` words.
    payload: str
    #: With what chunks are signed, and the request's own signature, from which theirs follow.
    key: bytes = field(repr=False)
    stamp: str
    scope: str
    signature: str
    #: Lower-case names of the signed headers.
    signed_headers: frozenset[str]


def body_signature(request: SignedRequest, keys: Keyring) -> BodySignature:
    """Of a request that `verify` has accepted, what its body is checked with."""
    in_header = bool(request.header("authorization"))
    if in_header:
        given = fields(request.header("authorization").removeprefix(ALGORITHM), ",")
        credential, signature = given["Credential"], given["Signature"]
        listed = given["SignedHeaders"]
        stamp = request.header("x-amz-date")
    else:
        credential = query_value(request.query, "X-Amz-Credential") or ""
        signature = query_value(request.query, "X-Amz-Signature") or ""
        listed = query_value(request.query, "X-Amz-SignedHeaders") or ""
        stamp = query_value(request.query, "X-Amz-Date") or ""
    key_id, *parts = credential.rsplit("/", 4)
    return BodySignature(
        payload=_payload(request, in_header=in_header),
        key=_signing_key(secret_of(keys, key_id), parts),
        stamp=stamp or _compact(http_time(request.header("date")) or 0.0),
        scope="/".join(parts),
        signature=signature,
        signed_headers=frozenset(listed_names(listed)),
    )


def _signing_key(secret: str, parts: list[str]) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in parts:
        key = hmac.digest(key, part.encode("latin-1"), hashlib.sha256)
    return key


def _compact(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _payload(request: SignedRequest, *, in_header: bool) -> str:
    named = request.header("x-amz-content-sha256")
    if not in_header:
        named = query_value(request.query, "X-Amz-Content-Sha256") or named or _UNSIGNED
    if named.startswith("STREAMING-") and request.body is not None:
        raise AuthError(501, "NotImplemented", "Chunk-signed bodies are not read here; sign the whole body.")
    if not named:
        named = hashlib.sha256(request.body or b"").hexdigest()
    if named != _UNSIGNED and request.body is not None:
        actual = hashlib.sha256(request.body).hexdigest()
        if not hmac.compare_digest(actual.encode(), named.lower().encode("latin-1", "replace")):
            raise AuthError(
                400, "XAmzContentSHA256Mismatch", "x-amz-content-sha256 is not the SHA-256 of the body."
            )
    return named


def _canonical(request: SignedRequest, path: bytes, query: bytes, listed: str, payload: str) -> bytes:
    lines = "".join(f"{name}:{_trimmed(request.header(name))}\n" for name in listed.split(";"))
    return b"\n".join(
        (
            request.method.upper().encode(),
            path or b"/",
            query,
            lines.encode("latin-1"),
            listed.encode("latin-1"),
            payload.encode("latin-1"),
        )
    )


def _trimmed(value: str) -> str:
    return " ".join(value.split()) if "  " in value or value != value.strip() else value


def _spellings(request: SignedRequest) -> Iterator[tuple[bytes, bytes]]:
    """Path and query as sent; then, for clients that sign so, decoded once and encoded again."""
    pairs = [pair for pair in query_pairs(request.query) if pair[0] != b"X-Amz-Signature"]
    sent = (request.raw_path, _joined(pairs))
    yield sent
    anew = [(encode(decode_query(name)), encode(decode_query(value))) for name, value in pairs]
    respelled = (respell_path(request.raw_path), _joined(anew))
    if respelled != sent:
        yield respelled


def _joined(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"&".join(name + b"=" + value for name, value in sorted(pairs))
