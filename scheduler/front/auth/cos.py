"""Tencent COS: `q-sign-algorithm=sha1&q-ak=…`, in the Authorization header or in the query. Pure.

Signed are the method, the decoded path, and the parameters and headers that the client lists itself. So that
a signature for a bucket cannot be turned into one for its rules, `origin` and `website` must be among the
listed parameters when they are in the query. No twin of any other scheme: its parts are named and joined in
its own way, two windows of time replace date and lifetime, and the derived key knows no scope.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import unquote_to_bytes

from scheduler.front.auth.encoding import (
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
    require_one_of,
    require_open,
    secret_of,
)

SCHEME = "cos"
_MARK = "q-sign-algorithm"
_NAMES = ("q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature")
#: Parameters that change what a request to a bucket means; unsigned ones are refused.
_MUST_BE_SIGNED = (b"origin", b"website")


def claims(request: SignedRequest) -> bool:
    """Whether the request carries a COS signature, in the header or in the query."""
    return request.header("authorization").startswith(f"{_MARK}=") or has_query(request.query, _MARK)


def verify(request: SignedRequest, keys: Keyring, now: float) -> Principal:
    """Check the signature, its window and its key time (`now` in Unix seconds).

    Raises:
        AuthError: InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, AccessDenied.
    """
    given = _parameters(request)
    secret = secret_of(keys, given["q-ak"])
    for name in ("q-sign-time", "q-key-time"):
        start, end = _window(given[name])
        require_open(start, end, now)

    listed = _signed_parameters(request, given["q-url-param-list"])
    sign_key = hmac.new(secret.encode(), given["q-key-time"].encode("latin-1"), hashlib.sha1).hexdigest()
    path = unquote_to_bytes(request.raw_path)

    def signature(host: str) -> bytes:
        headers = _signed_headers(request, given["q-header-list"], host)
        text = b"%b\n%b\n%b\n%b\n" % (request.method.lower().encode(), path, listed, headers)
        to_sign = f"sha1\n{given['q-sign-time']}\n{hashlib.sha1(text).hexdigest()}\n"
        return hmac.new(sign_key.encode(), to_sign.encode("latin-1"), hashlib.sha1).hexdigest().encode()

    require_one_of(map(signature, _hosts(request)), given["q-signature"], what="COS")
    return Principal(key_id=given["q-ak"], scheme=SCHEME)


def _parameters(request: SignedRequest) -> dict[str, str]:
    authorization = request.header("authorization")
    if authorization:
        found = fields(authorization, "&")
    else:
        found = {
            name: value
            for name in (_MARK, *_NAMES)
            if (value := query_value(request.query, name)) is not None
        }
    if found.get(_MARK) != "sha1":
        raise AuthError(400, "InvalidArgument", "q-sign-algorithm must be sha1.")
    missing = [name for name in _NAMES if name not in found]
    if missing:
        raise denied(f"The COS signature lacks {', '.join(missing)}.")
    return found


def _window(text: str) -> tuple[int, int]:
    first, _, second = text.partition(";")
    start, end = integer(first), integer(second)
    if start is None or end is None or end < start:
        raise denied("The COS signature's time is not `start;end` in Unix seconds.")
    return start, end


def _signed_parameters(request: SignedRequest, listed: str) -> bytes:
    """The listed parameters as `name=value&…`, in the listed order, which the client has sorted."""
    in_query: dict[bytes, list[bytes]] = {}
    for name, value in query_pairs(request.query):
        in_query.setdefault(encode(decode_query(name)).lower(), []).append(encode(decode_query(value)))
    names = [name.encode("latin-1") for name in listed_names(listed)]
    for name in _MUST_BE_SIGNED:
        if name in in_query and name not in names:
            raise mismatch(f"COS (the parameter `{name.decode()}` is not in q-url-param-list)")
    parts = []
    for name in names:
        values = in_query.get(name, [])
        if len(values) != 1:
            raise mismatch("COS (a listed parameter is missing or repeated)")
        parts.append(name + b"=" + values[0])
    return b"&".join(parts)


def _hosts(request: SignedRequest) -> tuple[str, ...]:
    """Host as sent, and without its port: the SDK's presigned URLs sign the bare name."""
    host = request.header("host")
    bare, colon, port = host.rpartition(":")
    return (host, bare) if colon and port.isdecimal() else (host,)


def _signed_headers(request: SignedRequest, listed: str, host: str) -> bytes:
    parts = []
    for name in listed_names(listed):
        plain = unquote_to_bytes(name).decode("latin-1")
        value = host if plain == "host" else request.header(plain)
        parts.append(name.encode("latin-1") + b"=" + encode(value.encode("latin-1")))
    return b"&".join(parts)
