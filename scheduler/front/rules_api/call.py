"""A call of the vendors' rule APIs: which request is one, its body, and who may send it.

Owns the rows W8, W10, W11 and W13 of SEMANTICS.md section 9. Knows neither documents nor rules.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from scheduler.front.auth import AuthError, Keyring, Principal, SignedRequest, verify
from scheduler.front.auth.encoding import decode_query, query_pairs
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES
from workers.origin.wire.addresses import is_loopback
from workers.secret_values import reveal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from scheduler.config.settings import Settings
    from scheduler.front.http.bucket_address import BucketAddress

SubResource = Literal["origin", "website"]

#: Parameters by which S3, COS and OSS clients ask for something else of a bucket (W8).
# fmt: off
_OTHER_SUB_RESOURCES: Final = frozenset({
    b"accelerate", b"acl", b"analytics", b"bucketInfo", b"cname", b"cors", b"delete", b"domain",
    b"encryption", b"intelligent-tiering", b"inventory", b"lifecycle", b"location", b"logging",
    b"metrics", b"notification", b"object-lock", b"ownershipControls", b"policy", b"policyStatus",
    b"publicAccessBlock", b"referer", b"replication", b"requestPayment", b"stat", b"tagging",
    b"transferAcceleration", b"uploads", b"versioning", b"versions", b"worm",
})
# fmt: on
#: Headers that only a proxy or a browser adds: such a request is not from this machine's own user.
_NOT_LOCAL: Final = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "origin"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """One call, with its whole body. Header names are lower case, values Latin-1 text."""

    id: str
    method: str
    address: BucketAddress
    raw_path: bytes
    query: bytes
    headers: tuple[tuple[str, str], ...]
    #: `Host` as the client sent it.
    host: str
    #: Addresses of the peer and of the listener; empty on a Unix socket.
    peer: str
    listener: str
    #: None when it was longer than L7 allows.
    body: bytes | None


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def is_wire_request(method: str, address: BucketAddress, query: bytes) -> bool:
    """Whether a request is for this API and not for an object: the bucket itself with a sub-resource, or a
    write.

    A plain GET or HEAD of the bucket is not; neither is anything below it.
    """
    if not address.is_bucket:
        return False
    return method not in {"GET", "HEAD"} or _sub_resources(query) != ()


def keyring_of(settings: Settings) -> Keyring:
    """The configured key pairs, and the configured token; a generated one opens the admin side only.

    Raises:
        ConfigError: a secret file cannot be read.
    """
    token = reveal(settings.admin.token, settings.admin.token_file)
    return Keyring(
        pairs={key.id: key.reveal() for key in settings.client_keys()},
        tokens=(token,) if token else (),
    )


async def read_body(receive: Callable[[], Awaitable[Mapping[str, Any]]], declared: str) -> bytes | None:
    """The body of an ASGI request; None when it is longer than L7 allows (`declared` is its Content-Length).

    A client that leaves ends the body; nobody is there to see the answer.
    """
    if declared.isdecimal() and int(declared) > MAX_DOCUMENT_BYTES:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_DOCUMENT_BYTES:
            return None
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _sub_resources(query: bytes) -> tuple[bytes, ...]:
    """The names in a query that ask for something of the bucket, each once; `?origin` and `?origin=` alike
    (W11).
    """
    pairs = [(decode_query(name), value) for name, value in query_pairs(query)]
    known = {name for name, _ in pairs} & (_OTHER_SUB_RESOURCES | {b"origin", b"website"})
    # One that nobody here has heard of is known by its form: a parameter without a value.
    return tuple(sorted(known or {name for name, value in pairs if name and not value}))


def one_sub_resource(request: WireRequest) -> SubResource:
    """Which rules it is about.

    Raises:
        Refused: 405: none, several, another one, or a method that is not served.
    """
    found = _sub_resources(request.query)
    if found not in {(b"origin",), (b"website",)} or request.method not in {"GET", "PUT", "DELETE"}:
        what = " and ".join(f"?{name.decode('utf-8', 'replace')}" for name in found) or "the bucket itself"
        raise Refused(
            405,
            "MethodNotAllowed",
            f"{request.method} of {what} is not served; GET, PUT and DELETE of ?origin and of ?website are.",
            (b"allow", b"GET, PUT, DELETE"),
        )
    return "origin" if found == (b"origin",) else "website"


def authenticate(request: WireRequest, settings: Settings) -> Principal:
    """Who sent it (W13).

    Raises:
        Refused: not signed as it must be, or by a key that may not.
    """
    keys = keyring_of(settings)
    if not (settings.gateway.access_keys or keys.tokens):
        # A key that was made for this machine's own clients shuts nobody of this machine out.
        if _is_local(request):
            return Principal(key_id="local", scheme="none")
        raise Refused(
            403,
            "AccessDenied",
            "No access key is configured, so rules are taken from this machine only and through no proxy.",
        )
    headers = tuple((name, request.host if name == "host" else value) for name, value in request.headers)
    signed = SignedRequest(
        method=request.method,
        raw_path=request.raw_path,
        query=request.query,
        headers=headers,
        bucket=request.address.bucket,
        object_path=request.address.object_path,
        body=request.body,
    )
    try:
        principal = verify(signed, keys, time.time())
    except AuthError as error:
        raise Refused(error.status, error.code, error.message) from error
    _check_permission(settings, principal, request.address.bucket)
    return principal


def _check_permission(settings: Settings, principal: Principal, bucket: str) -> None:
    """A key that says what it may, or for which buckets, is held to it."""
    for key in settings.client_keys():
        if key.id != principal.key_id:
            continue
        if key.may is not None and "manage" not in key.may:
            raise Refused(403, "AccessDenied", f"The access key {key.id!r} lacks the permission 'manage'.")
        if key.buckets is not None and bucket not in key.buckets:
            raise Refused(403, "AccessDenied", f"The access key {key.id!r} is not for the bucket {bucket!r}.")


def _is_local(request: WireRequest) -> bool:
    """Whether the request comes straight from this machine to a loopback listener (W13)."""
    return (
        is_loopback(request.listener)
        and is_loopback(request.peer)
        and not any(name in _NOT_LOCAL for name, _ in request.headers)
    )


def require_md5(request: WireRequest) -> None:
    """W10, for every method."""
    values = [value for name, value in request.headers if name == "content-md5"]
    if not values:
        return
    try:
        given = base64.b64decode(values[0], validate=True)
    except (binascii.Error, ValueError):
        given = b""
    if len(given) != 16 or len(values) > 1:
        raise Refused(400, "InvalidDigest", "Content-MD5 is not the base64 of 16 bytes.")
    if not hmac.compare_digest(given, hashlib.md5(request.body or b"").digest()):
        raise Refused(400, "BadDigest", "Content-MD5 is not the MD5 of the body that arrived.")
