"""Alibaba OSS version 4: `OSS4-HMAC-SHA256` in the Authorization header, or as `x-oss-*` parameters. Pure.

Signed are the method, `/bucket/key`, the whole query, Content-Type, Content-MD5, every `x-oss-*` header and
the additional headers that the client lists.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import compact_time, decode_query, encode, query_pairs
from scheduler.front.auth.model import (
    Keyring,
    Principal,
    SignedRequest,
    denied,
    listed_names,
    mismatch,
    secret_of,
)
from scheduler.front.auth.scoped_hmac import Parameters, ScopedHmac

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEME = ScopedHmac(
    shown="OSS V4",
    algorithm="OSS4-HMAC-SHA256",
    key_prefix="aliyun_v4",
    date_header="x-oss-date",
    listed_field="AdditionalHeaders",
    parameters=Parameters(
        algorithm="x-oss-signature-version",
        credential="x-oss-credential",
        signature="x-oss-signature",
        listed="x-oss-additional-headers",
        date="x-oss-date",
        expires="x-oss-expires",
    ),
    slash_in_id=False,
)
_TERMINATOR = "aliyun_v4_request"
_ALWAYS = ("content-md5", "content-type")
#: Of ASCII only: the bytes of `à` in UTF-8 end with a blank of Latin-1.
_BLANKS = " \t"

claims = _SCHEME.claims


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature, its time and, when the client hashed it, the body (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied,
        InvalidArgument.
    """
    given = _SCHEME.read(request)
    secret = secret_of(keys, given.key_id)
    signed_at = compact_time(given.date)
    scope = given.scope
    if signed_at is None or len(scope) != 4 or scope[0] != given.date[:8] or scope[3] != _TERMINATOR:
        raise denied(
            f"The OSS V4 signature needs x-oss-date and Credential=id/date/region/product/{_TERMINATOR}."
        )
    _SCHEME.require_time(request, given, signed_at, now)

    payload = request.header("x-oss-content-sha256") or "UNSIGNED-PAYLOAD"
    _check_payload(payload, request.body)
    texts = (_canonical(request, query, given.listed, payload) for query in _queries(request.query))
    _SCHEME.require_signed(given, texts, _SCHEME.signing_key(secret, scope), given.date)
    return Principal(key_id=given.key_id, scheme="oss-v4")


def _check_payload(payload: str, body: bytes | None) -> None:
    if payload == "UNSIGNED-PAYLOAD":
        return
    if body is not None and not hmac.compare_digest(
        hashlib.sha256(body).hexdigest().encode(), payload.lower().encode("latin-1", "replace")
    ):
        raise mismatch("OSS V4 (x-oss-content-sha256 is not the hash of the body)")


def _canonical(request: SignedRequest, query: bytes, additional: str, payload: str) -> bytes:
    listed = listed_names(additional)
    signed = {name for name, _ in request.headers if name.startswith("x-oss-") or name in _ALWAYS}
    names = sorted(signed | set(listed))
    headers = "".join(f"{name}:{request.header(name).strip(_BLANKS)}\n" for name in names)
    return b"\n".join(
        (
            request.method.upper().encode(),
            encode(request.resource(), slash=True),
            query,
            headers.encode("latin-1"),
            ";".join(sorted(listed)).encode("latin-1"),
            payload.encode("latin-1"),
        )
    )


def _queries(raw: bytes) -> Iterator[bytes]:
    """The query without the signature as sent; then, for clients that sign so, spelled anew."""
    pairs = [pair for pair in query_pairs(raw) if pair[0] != b"x-oss-signature"]
    yield _joined(pairs)
    anew = [(encode(decode_query(name)), encode(decode_query(value))) for name, value in pairs]
    if anew != pairs:
        yield _joined(anew)


def _joined(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"&".join(name + b"=" + value if value else name for name, value in sorted(pairs))
