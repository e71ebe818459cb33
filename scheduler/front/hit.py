"""An object that the store has: GET and HEAD, ranges, conditions, overrides, replayed headers.

Owns the answer for a hit. What the store says when it has no such object is returned to the caller, who
knows what a miss means. One exchange with the store in the usual case; two when conditions or several
ranges need the object's record first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.conditional import Verdict, evaluate, has_conditions, if_range_holds
from scheduler.front.http.object_headers import from_store, raw, store_validators, with_overrides
from scheduler.front.http.range_header import Slice, header_value, parse_range, resolve_all, single
from workers.errors import KeyNotRepresentable, StoreDenied, StoreError, StoreRejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.front.http.answer import Answer
    from scheduler.front.http.object_headers import RawHeaders
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from workers.store.model import ObjectInfo
    from workers.store.wire.response import StoreResponse

log = structlog.get_logger()

#: Seconds for which a presigned URL of `hits: redirect` is good.
PRESIGNED_S = 900
#: Of a 304.
_NOT_MODIFIED = frozenset(
    {b"etag", b"last-modified", b"cache-control", b"expires", b"x-oss-tag", b"access-control-allow-origin"}
)


class _ChangedMeanwhile(Exception):
    """The object was replaced between the look at its record and the read."""


async def serve_hit(parts: Parts, request: Request, answer: Answer, target: Target) -> int | None:
    """Answer from the store. None: answered; else the store's status for this object (404, 403, 5xx)."""
    for last in (False, False, True):
        try:
            return await _serve(parts, request, answer, target)
        except _ChangedMeanwhile:
            if last:
                break
        except StoreError as error:
            if answer.started:
                raise
            if isinstance(error, (StoreRejected, KeyNotRepresentable)) and error.status in {
                400,
                404,
                405,
                409,
            }:
                return 404  # such a key cannot be in this store (dot segments, `a` beside `a/b`)
            log.warning("store_lookup_failed", bucket=target.bucket, reason=error.reason, error=str(error))
            return error.status if isinstance(error, StoreDenied) and error.status else 503
    return 503


async def _serve(parts: Parts, request: Request, answer: Answer, target: Target) -> int | None:
    by_name = request.by_name
    specs = parse_range(by_name["range"]) if "range" in by_name and request.method == "GET" else None
    one = single(specs)
    redirected = target.bucket_settings.hits == "redirect"
    record_first = (
        request.method == "HEAD"
        or redirected
        or has_conditions(by_name)
        or (specs is not None and (one is None or "if-range" in by_name))
    )
    if not record_first:
        return await _get(parts, request, answer, target, one)
    info = await parts.store.head(target.bucket, target.key)
    if info is None:
        return 404
    headers = from_store(info)
    validators = store_validators(headers)
    verdict = evaluate(by_name, validators)
    if verdict is Verdict.FAILED:
        parts.stats.answered("hit", target.bucket)
        await answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
        return None
    if verdict is Verdict.NOT_MODIFIED:
        parts.stats.answered("hit", target.bucket)
        await answer.whole(304, [pair for pair in headers if pair[0] in _NOT_MODIFIED])
        return None
    if redirected and request.method == "GET":
        parts.stats.answered("hit", target.bucket)
        await _redirect(parts, request, answer, target)
        return None
    overridden = _overridden(request, headers)
    if overridden is None:
        await answer.error(s3_error.INVALID_ARGUMENT, resource=target.resource)
        return None
    if request.method == "HEAD":
        parts.stats.answered("hit", target.bucket)
        await answer.whole(200, overridden, length=info.size)
        return None
    if specs is not None and "if-range" in by_name and not if_range_holds(by_name["if-range"], validators):
        specs = one = None
    if specs is not None and one is None:
        slices = resolve_all(specs, info.size)
        if slices is not None and not slices:
            await _unsatisfiable(answer, target, info.size)
            return None
        if slices is not None and len(slices) > 1:
            parts.stats.answered("hit", target.bucket)
            await _multipart(parts, answer, target, info, overridden, slices)
            return None
        one = None if slices is None else specs[0] if len(specs) == 1 else _spec_of(slices[0])
    return await _get(parts, request, answer, target, one, etag=info.etag)


async def _get(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    spec: RangeSpec | None,
    *,
    etag: str | None = None,
) -> int | None:
    """One GET of the store, whole or of one range; of exactly the object with `etag` when given."""
    asked: list[tuple[str, str]] = []
    if spec is not None:
        asked.append(("Range", header_value(spec)))
    if etag:
        asked.append(("If-Match", f'"{etag}"'))
    response = await parts.store.get(target.bucket, target.key, headers=asked)
    try:
        if response.status in {404, 412, 416} and not response.is_whole:
            await response.read()  # a body that is left unread costs the connection
        if response.status == 404:
            return 404
        if response.status == 412:
            raise _ChangedMeanwhile
        if response.status == 416:
            size = await _size(parts, target, response)
            if size is None:
                return 404
            parts.stats.answered("hit", target.bucket)
            await _unsatisfiable(answer, target, size)
            return None
        info = response.info
        if info is None:
            return 503
        headers = _overridden(request, from_store(info))
        if headers is None:
            await answer.error(s3_error.INVALID_ARGUMENT, resource=target.resource)
            return None
        length = info.size
        if response.status == 206:
            content_range = _header(response, "content-range")
            length = int(_header(response, "content-length") or 0)
            headers.append((b"content-range", raw(content_range)))
        parts.stats.answered("hit", target.bucket)
        await answer.pour(response.status, headers, response, length=length)
        return None
    finally:
        response.close()


async def _multipart(
    parts: Parts,
    answer: Answer,
    target: Target,
    info: ObjectInfo,
    headers: RawHeaders,
    slices: list[Slice],
) -> None:
    """Several ranges as multipart/byteranges, each read from the same version of the object."""
    boundary = os.urandom(16).hex().encode()
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    type_line = b"Content-Type: " + content_type + b"\r\n" if content_type else b""
    heads = [
        b"\r\n--%b\r\n%bContent-Range: %b\r\n\r\n"
        % (boundary, type_line, part.content_range(info.size).encode())
        for part in slices
    ]
    end = b"\r\n--%b--\r\n" % boundary
    length = sum(len(head) + part.length for head, part in zip(heads, slices, strict=True)) + len(end)

    async def chunks() -> AsyncIterator[bytes]:
        for head, part in zip(heads, slices, strict=True):
            yield head
            asked = [("Range", f"bytes={part.start}-{part.stop - 1}"), ("If-Match", f'"{info.etag}"')]
            async with await parts.store.get(target.bucket, target.key, headers=asked) as response:
                if response.status != 206:
                    raise _ChangedMeanwhile
                async for chunk in response.chunks():
                    yield chunk
        yield end

    head = [pair for pair in headers if pair[0] != b"content-type"]
    head.append((b"content-type", b"multipart/byteranges; boundary=" + boundary))
    await answer.stream(206, head, chunks(), length=length)


async def _redirect(parts: Parts, request: Request, answer: Answer, target: Target) -> None:
    """`hits: redirect`: the client reads from the store itself."""
    params = {name: value for name, value in _parameters(request) if name.lower().startswith("response-")}
    url = parts.store.presign_get(target.bucket, target.key, expires_s=PRESIGNED_S, params=params)
    await answer.whole(302, [(b"location", url.encode("ascii")), (b"cache-control", b"no-store")])


async def _unsatisfiable(answer: Answer, target: Target, size: int) -> None:
    await answer.error(
        s3_error.INVALID_RANGE,
        resource=target.resource,
        headers=[(b"content-range", b"bytes */%d" % size), (b"accept-ranges", b"bytes")],
    )


async def _size(parts: Parts, target: Target, response: StoreResponse) -> int | None:
    """Size of an object whose range was refused; None when it is gone."""
    total = _header(response, "content-range").rpartition("/")[2]
    if total.isdecimal():
        return int(total)
    info = await parts.store.head(target.bucket, target.key)
    return None if info is None else info.size


def _overridden(request: Request, headers: RawHeaders) -> RawHeaders | None:
    """`headers` with the `response-*` parameters of the query; None when one of them is no header value."""
    if "response-" not in request.query.lower():
        return headers
    return with_overrides(headers, _parameters(request))


def _parameters(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.query, keep_blank_values=True, errors="replace")


def _header(response: StoreResponse, name: str) -> str:
    return next((value for given, value in response.headers if given.lower() == name), "")


def _spec_of(part: Slice) -> RangeSpec:
    from scheduler.front.http.range_header import RangeSpec as Spec

    return Spec(part.start, part.stop - 1)
