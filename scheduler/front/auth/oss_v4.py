"""Alibaba OSS version 4: `OSS4-HMAC-SHA256` in the Authorization header, or as `x-oss-*` parameters. Pure.

Signed are the method, `/bucket/key`, the whole query, Content-Type, Content-MD5, every `x-oss-*` header and
the additional headers that the client lists.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from scheduler.front.auth.encoding import (
    compact_time,
    decode_query,
    encode,
    fields,
    has_query,
    integer,
    query_pairs,
    query_value,
)
from scheduler.front.auth.model import (
    AuthError,
    Keyring,
    Principal,
    SignedRequest,
    denied,
    listed_names,
    mismatch,
    require_equal,
    require_fresh,
    require_open,
    secret_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "oss-v4"
ALGORITHM = "OSS4-HMAC-SHA256"
_TERMINATOR = "aliyun_v4_request"
_MAX_EXPIRES_S = 7 * 24 * 3600
_ALWAYS = ("content-md5", "content-type")


def claims(request: SignedRequest) -> bool:
    """Whether the request carries an OSS version 4 signature, in the header or in the query."""
    return request.header("authorization").startswith(ALGORITHM) or has_query(
        request.query, "x-oss-signature-version"
    )


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature, its time and, when the client hashed it, the body (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied,
        InvalidArgument.
    """
    in_header = bool(request.header("authorization"))
    if in_header:
        given = fields(request.header("authorization").removeprefix(ALGORITHM), ",")
        credential, signature = given.get("Credential", ""), given.get("Signature", "")
        additional = given.get("AdditionalHeaders", "")
        date = request.header("x-oss-date")
    else:
        if query_value(request.query, "x-oss-signature-version") != ALGORITHM:
            raise AuthError(400, "InvalidArgument", f"x-oss-signature-version must be {ALGORITHM}.")
        credential = query_value(request.query, "x-oss-credential") or ""
        signature = query_value(request.query, "x-oss-signature") or ""
        additional = query_value(request.query, "x-oss-additional-headers") or ""
        date = query_value(request.query, "x-oss-date") or ""
    key_id, _, scope = credential.partition("/")
    secret = secret_of(keys, key_id)
    signed_at = compact_time(date)
    parts = scope.split("/")
    if signed_at is None or len(parts) != 4 or parts[0] != date[:8] or parts[3] != _TERMINATOR:
        raise denied(
            f"The OSS V4 signature needs x-oss-date and Credential=id/date/region/product/{_TERMINATOR}."
        )
    if in_header:
        require_fresh(signed_at, now)
    else:
        expires = integer(query_value(request.query, "x-oss-expires"))
        if expires is None or not 1 <= expires <= _MAX_EXPIRES_S:
            raise AuthError(400, "InvalidArgument", f"x-oss-expires must be 1 to {_MAX_EXPIRES_S} seconds.")
        require_open(signed_at, signed_at + expires, now)

    payload = request.header("x-oss-content-sha256") or "UNSIGNED-PAYLOAD"
    _check_payload(payload, request.body)
    key = ("aliyun_v4" + secret).encode()
    for part in parts:
        key = hmac.digest(key, part.encode("latin-1"), hashlib.sha256)
    wanted = ""
    for query in _queries(request.query):
        text = _canonical(request, query, additional, payload)
        to_sign = f"{ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(text).hexdigest()}"
        wanted = hmac.digest(key, to_sign.encode("latin-1"), hashlib.sha256).hex()
        if hmac.compare_digest(wanted.encode(), signature.encode("latin-1", "replace")):
            break
    require_equal(wanted, signature, what="OSS V4")
    return Principal(key_id=key_id, scheme=SCHEME)


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
    headers = "".join(f"{name}:{request.header(name).strip()}\n" for name in names)
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
