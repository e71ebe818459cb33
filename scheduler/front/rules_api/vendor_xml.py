"""The vendors' own rule APIs: GET, PUT and DELETE of `?origin` and `?website` on a bucket.

Owns the rows W1 to W13 of SEMANTICS.md section 9: which request is one, who may send it, and every answer.
What a document means is the codecs' (`scheduler.rules`), what is in force is the repository's. Serves no
object.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import structlog

from scheduler.front.auth import AuthError, Keyring, Principal, SignedRequest, verify
from scheduler.front.auth.encoding import decode_query, query_pairs
from scheduler.front.http import s3_error
from scheduler.front.http.bucket_address import host_name
from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.in_force.apply import read_options, require_api_owned
from scheduler.rules.in_force.repository import OwnedByFile
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import DocumentError, NotExpressible
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES
from workers.errors import BrokerUnavailable
from workers.origin.wire.addresses import is_loopback
from workers.secret_values import reveal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from scheduler.config.settings import Settings
    from scheduler.front.http.bucket_address import BucketAddress
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.model import RuleSet
    from scheduler.rules.problems import Problem, ReadOptions

T = TypeVar("T")
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
#: Warnings that an answer carries; HTTP clients take about a hundred headers.
_MAX_WARNINGS: Final = 20
_MAX_WARNING_CHARS: Final = 500
#: Documents up to this size are read in a few milliseconds.
_QUICK_BYTES: Final = 32 * 1024

log = structlog.get_logger(__name__)


class WireServices(Protocol):
    """What of `scheduler.runtime.Services` is needed here."""

    @property
    def settings(self) -> Settings: ...

    @property
    def rules(self) -> RulesRepository: ...


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WireResponse:
    """Status, headers (with Content-Length) and body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


class _Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """One of the two APIs: its codec, and the code for "there are no rules"."""

    parse: Callable[[bytes, ReadOptions], tuple[RuleSet, tuple[Problem, ...]]]
    render: Callable[[RuleSet], str]
    absent_code: str


_DIALECTS: Final[Mapping[SubResource, _Dialect]] = {
    "origin": _Dialect(
        parse=cos_xml.parse, render=cos_xml.render, absent_code="OriginConfigurationNotFoundError"
    ),
    "website": _Dialect(parse=oss_xml.parse, render=oss_xml.render, absent_code="NoSuchWebsiteConfiguration"),
}


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


async def wire_api(request: WireRequest, services: WireServices) -> WireResponse:
    """Answer one call (W1 to W13). Never raises for what a client sent."""
    bucket = request.address.bucket
    try:
        response = await _answer(request, services)
    except _Refused as refused:
        log.info("rule_call_refused", bucket=bucket, method=request.method, code=refused.code)
        response = _refusal(request, refused)
    if request.method == "HEAD":
        return WireResponse(status=response.status, headers=response.headers)
    return response


async def _answer(request: WireRequest, services: WireServices) -> WireResponse:
    sub_resource = _one_sub_resource(request)
    principal = _authenticate(request, services.settings)
    bucket = request.address.bucket
    if bucket not in services.settings.buckets:
        message = f"The bucket {bucket!r} is not in the configuration."
        raise _Refused(404, "NoSuchBucket", message if bucket else "The request names no bucket.")
    if request.body is None:
        raise _Refused(400, "EntityTooLarge", f"A rule document has at most {MAX_DOCUMENT_BYTES} bytes.")
    _check_md5(request)
    how = f"{request.method} ?{sub_resource}"
    try:
        if request.method == "GET":
            return await _get(request, services, sub_resource)
        require_api_owned(services.settings, bucket)
        if request.method == "PUT":
            return await _put(request, services, sub_resource, who=principal.key_id, how=how)
        await services.rules.delete(bucket, owner="api", who=principal.key_id, how=how)
    except OwnedByFile as error:
        raise _Refused(409, "InvalidBucketState", _sentence(error)) from error
    except BrokerUnavailable as error:
        raise _Refused(
            503,
            "ServiceUnavailable",
            "The rules cannot be reached now; please try again.",
            (b"retry-after", b"1"),
        ) from error
    return _response(request, 204)


async def _get(request: WireRequest, services: WireServices, sub_resource: SubResource) -> WireResponse:
    dialect = _DIALECTS[sub_resource]
    ruleset = await services.rules.read(request.address.bucket)
    if ruleset is None or not (ruleset.rules or ruleset.website):  # the gate may have retired the last one
        raise _Refused(404, dialect.absent_code, f"The bucket has no {sub_resource} rules.")
    try:
        text = dialect.render(ruleset)
    except NotExpressible as error:
        raise _Refused(409, "RuleNotExpressible", _sentence(error)) from error
    return _response(request, 200, body=text.encode())


async def _put(
    request: WireRequest, services: WireServices, sub_resource: SubResource, *, who: str, how: str
) -> WireResponse:
    bucket = request.address.bucket
    options = read_options(services.settings, bucket, owner="api", request_host=host_name(request.host))
    try:
        ruleset, warnings = await off_the_loop(_DIALECTS[sub_resource].parse, request.body or b"", options)
    except DocumentError as error:
        raise _Refused(error.http_status, error.code, str(error)) from error
    replaced = await services.rules.replace(
        bucket, ruleset.rules, owner="api", who=who, how=how, source=ruleset.source, website=ruleset.website
    )
    for warning in warnings:
        log.warning("rule_document_warning", bucket=bucket, version=replaced.version, warning=str(warning))
    return _response(request, 200, extra=warning_headers(warnings))


async def off_the_loop(parse: Callable[[bytes, ReadOptions], T], body: bytes, options: ReadOptions) -> T:
    """Read a document; a large one, which can take a second, in a thread, so that objects are served on."""
    if len(body) <= _QUICK_BYTES:
        return parse(body, options)
    return await asyncio.to_thread(parse, body, options)


# ------------------------------------------------------------ judging a request


def _sub_resources(query: bytes) -> tuple[bytes, ...]:
    """The names in a query that ask for something of the bucket, each once; `?origin` and `?origin=` alike
    (W11).
    """
    pairs = [(decode_query(name), value) for name, value in query_pairs(query)]
    known = {name for name, _ in pairs} & (_OTHER_SUB_RESOURCES | {b"origin", b"website"})
    # One that nobody here has heard of is known by its form: a parameter without a value.
    return tuple(sorted(known or {name for name, value in pairs if name and not value}))


def _one_sub_resource(request: WireRequest) -> SubResource:
    found = _sub_resources(request.query)
    if found not in {(b"origin",), (b"website",)} or request.method not in {"GET", "PUT", "DELETE"}:
        what = " and ".join(f"?{name.decode('utf-8', 'replace')}" for name in found) or "the bucket itself"
        raise _Refused(
            405,
            "MethodNotAllowed",
            f"{request.method} of {what} is not served; GET, PUT and DELETE of ?origin and of ?website are.",
            (b"allow", b"GET, PUT, DELETE"),
        )
    return "origin" if found == (b"origin",) else "website"


def _authenticate(request: WireRequest, settings: Settings) -> Principal:
    keys = keyring_of(settings)
    if not (settings.gateway.access_keys or keys.tokens):
        # A key that was made for this machine's own clients shuts nobody of this machine out.
        if _is_local(request):
            return Principal(key_id="local", scheme="none")
        raise _Refused(
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
        raise _Refused(error.status, error.code, error.message) from error
    _check_permission(settings, principal, request.address.bucket)
    return principal


def _check_permission(settings: Settings, principal: Principal, bucket: str) -> None:
    """A key that says what it may, or for which buckets, is held to it."""
    for key in settings.client_keys():
        if key.id != principal.key_id:
            continue
        if key.may is not None and "manage" not in key.may:
            raise _Refused(403, "AccessDenied", f"The access key {key.id!r} lacks the permission 'manage'.")
        if key.buckets is not None and bucket not in key.buckets:
            raise _Refused(
                403, "AccessDenied", f"The access key {key.id!r} is not for the bucket {bucket!r}."
            )


def _is_local(request: WireRequest) -> bool:
    """Whether the request comes straight from this machine to a loopback listener (W13)."""
    return (
        is_loopback(request.listener)
        and is_loopback(request.peer)
        and not any(name in _NOT_LOCAL for name, _ in request.headers)
    )


def _check_md5(request: WireRequest) -> None:
    """W10, for every method."""
    values = [value for name, value in request.headers if name == "content-md5"]
    if not values:
        return
    try:
        given = base64.b64decode(values[0], validate=True)
    except (binascii.Error, ValueError):
        given = b""
    if len(given) != 16 or len(values) > 1:
        raise _Refused(400, "InvalidDigest", "Content-MD5 is not the base64 of 16 bytes.")
    if not hmac.compare_digest(given, hashlib.md5(request.body or b"").digest()):
        raise _Refused(400, "BadDigest", "Content-MD5 is not the MD5 of the body that arrived.")


# ------------------------------------------------------------ answers


def warning_headers(warnings: Sequence[Problem]) -> list[tuple[bytes, bytes]]:
    """One `x-ferryman-warning` a warning, in printable ASCII; what is too many is counted in the last one."""
    texts = [str(warning) for warning in warnings]
    if len(texts) > _MAX_WARNINGS:
        # The same words about every rule must not push out what concerns only one of them.
        first: dict[str, str] = {}
        for warning in warnings:
            first.setdefault(warning.message, str(warning))
        texts = list(dict.fromkeys([*first.values(), *texts]))
        texts = [*texts[: _MAX_WARNINGS - 1], f"and {len(texts) - _MAX_WARNINGS + 1} more"]
    return [(b"x-ferryman-warning", _header_value(text)) for text in texts]


def _header_value(text: str) -> bytes:
    escaped = text.encode("unicode_escape").replace(b"\\\\", b"\\")
    return escaped[:_MAX_WARNING_CHARS]


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _response(
    request: WireRequest, status: int, *, body: bytes = b"", extra: Sequence[tuple[bytes, bytes]] = ()
) -> WireResponse:
    headers = [*s3_error.request_id_headers(request.id), *extra]
    if body:
        headers.append((b"content-type", b"application/xml"))
    if status != 204:
        headers.append((b"content-length", b"%d" % len(body)))
    return WireResponse(status=status, headers=tuple(headers), body=body)


def _refusal(request: WireRequest, refused: _Refused) -> WireResponse:
    status, headers, body = s3_error.error_answer(
        s3_error.S3Error(status=refused.status, code=refused.code, message=refused.message),
        resource=f"/{request.address.bucket}",
        request_id=request.id,
        headers=refused.headers,
    )
    return WireResponse(status=status, headers=tuple(headers), body=body)
