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
    http_time,
    query_pairs,
    query_value,
    respell_path,
    trimmed,
)
from scheduler.front.auth.model import (
    AuthError,
    Keyring,
    Principal,
    SignedRequest,
    denied,
    listed_names,
    secret_of,
)
from scheduler.front.auth.scoped_hmac import Parameters, ScopedHmac

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.front.auth.scoped_hmac import Presented

SCHEME = ScopedHmac(
    shown="AWS V4",
    algorithm="AWS4-HMAC-SHA256",
    key_prefix="AWS4",
    date_header="x-amz-date",
    listed_field="SignedHeaders",
    parameters=Parameters(
        algorithm="X-Amz-Algorithm",
        credential="X-Amz-Credential",
        signature="X-Amz-Signature",
        listed="X-Amz-SignedHeaders",
        date="X-Amz-Date",
        expires="X-Amz-Expires",
    ),
    slash_in_id=True,
)
_UNSIGNED = "UNSIGNED-PAYLOAD"

claims = SCHEME.claims


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature, its time and the payload hash against the body (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied,
            InvalidArgument, XAmzContentSHA256Mismatch, and NotImplemented for chunk-signed bodies that were
            read whole.
    """
    given = SCHEME.read(request)
    secret = secret_of(keys, given.key_id)
    signed_at = _signed_at(request, given)
    if signed_at is None or len(given.scope) != 4 or given.scope[2:] != ("s3", "aws4_request"):
        raise denied("The signature needs a date and Credential=id/date/region/s3/aws4_request.")
    stamp = given.date or _compact(signed_at)
    if given.scope[0] != stamp[:8]:
        raise denied("The date in Credential is not the date of the request.")
    if "host" not in listed_names(given.listed):
        raise denied("Host must be one of the signed headers.")
    SCHEME.require_time(request, given, signed_at, now)

    payload = _payload(request, in_header=given.in_header)
    texts = (_canonical(request, path, query, given.listed, payload) for path, query in _spellings(request))
    SCHEME.require_signed(given, texts, SCHEME.signing_key(secret, given.scope), stamp)
    return Principal(key_id=given.key_id, scheme="aws-v4")


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
    given = SCHEME.read(request)
    return BodySignature(
        payload=_payload(request, in_header=given.in_header),
        key=SCHEME.signing_key(secret_of(keys, given.key_id), given.scope),
        stamp=given.date or _compact(_signed_at(request, given) or 0.0),
        scope="/".join(given.scope),
        signature=given.signature,
        signed_headers=frozenset(listed_names(given.listed)),
    )


def _signed_at(request: SignedRequest, given: Presented) -> float | None:
    """When it was signed, in Unix seconds; a signature in the header may go by Date."""
    if given.in_header and not given.date:
        return http_time(request.header("date"))
    return compact_time(given.date)


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
    lines = "".join(f"{name}:{trimmed(request.header(name))}\n" for name in listed.split(";"))
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
