"""The vendors' own rule APIs: GET, PUT and DELETE of `?origin` and `?website` on a bucket.

Owns every answer (SEMANTICS.md section 9); which request is a call and who may send it, tells `call`. What a
document means is the codecs' (`scheduler.rules`), what is in force is the repository's. Serves no object.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.bucket_address import host_name
from scheduler.front.rules_api.call import Refused, authenticate, one_sub_resource, require_md5
from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.in_force.apply import read_options, require_api_owned
from scheduler.rules.in_force.repository import OwnedByFile
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import DocumentError, NotExpressible
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES
from workers.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scheduler.config.settings import Settings
    from scheduler.front.rules_api.call import SubResource, WireRequest
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.model import RuleSet
    from scheduler.rules.problems import Problem, ReadOptions

T = TypeVar("T")
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
class WireResponse:
    """Status, headers (with Content-Length) and body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


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


async def wire_api(request: WireRequest, services: WireServices) -> WireResponse:
    """Answer one call (W1 to W13). Never raises for what a client sent."""
    bucket = request.address.bucket
    try:
        response = await _answer(request, services)
    except Refused as refused:
        log.info("rule_call_refused", bucket=bucket, method=request.method, code=refused.code)
        response = _refusal(request, refused)
    if request.method == "HEAD":
        return WireResponse(status=response.status, headers=response.headers)
    return response


async def _answer(request: WireRequest, services: WireServices) -> WireResponse:
    sub_resource = one_sub_resource(request)
    principal = authenticate(request, services.settings)
    bucket = request.address.bucket
    if bucket not in services.settings.buckets:
        message = f"The bucket {bucket!r} is not in the configuration."
        raise Refused(404, "NoSuchBucket", message if bucket else "The request names no bucket.")
    if request.body is None:
        raise Refused(400, "EntityTooLarge", f"A rule document has at most {MAX_DOCUMENT_BYTES} bytes.")
    require_md5(request)
    how = f"{request.method} ?{sub_resource}"
    try:
        if request.method == "GET":
            return await _get(request, services, sub_resource)
        require_api_owned(services.settings, bucket)
        if request.method == "PUT":
            return await _put(request, services, sub_resource, who=principal.key_id, how=how)
        await services.rules.delete(bucket, owner="api", who=principal.key_id, how=how)
    except OwnedByFile as error:
        raise Refused(409, "InvalidBucketState", _sentence(error)) from error
    except BrokerUnavailable as error:
        raise Refused(
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
        raise Refused(404, dialect.absent_code, f"The bucket has no {sub_resource} rules.")
    try:
        text = dialect.render(ruleset)
    except NotExpressible as error:
        raise Refused(409, "RuleNotExpressible", _sentence(error)) from error
    return _response(request, 200, body=text.encode())


async def _put(
    request: WireRequest, services: WireServices, sub_resource: SubResource, *, who: str, how: str
) -> WireResponse:
    bucket = request.address.bucket
    options = read_options(services.settings, bucket, owner="api", request_host=host_name(request.host))
    try:
        ruleset, warnings = await off_the_loop(_DIALECTS[sub_resource].parse, request.body or b"", options)
    except DocumentError as error:
        raise Refused(error.http_status, error.code, str(error)) from error
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


def _refusal(request: WireRequest, refused: Refused) -> WireResponse:
    status, headers, body = s3_error.error_answer(
        s3_error.S3Error(status=refused.status, code=refused.code, message=refused.message),
        resource=f"/{request.address.bucket}",
        request_id=request.id,
        headers=refused.headers,
    )
    return WireResponse(status=status, headers=tuple(headers), body=body)
