"""Response headers of an object, whether it comes from the store or straight from the origin.

Owns which headers a client sees and in what bytes. Pure. What is replayed from metadata is decided by
`workers.store.metadata`; provenance of Ferryman's own is never shown.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from scheduler.front.http.conditional import Validators
from workers.http.dates import http_seconds
from workers.store.metadata import NO_TYPE, content_encoding, decode_value, is_mirrored, replay_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.rules.model import Header
    from workers.store.model import ObjectInfo, ObjectMeta

    RawHeaders = list[tuple[bytes, bytes]]

#: The seven system headers that are kept (S3 to S5), and how long an origin wants to be left alone.
KEPT = frozenset(
    {
        "content-type",
        "content-encoding",
        "content-disposition",
        "content-language",
        "cache-control",
        "expires",
        "access-control-allow-origin",
    }
)
_USER_META = ("x-oss-meta-", "x-cos-meta-", "x-amz-meta-")
#: Metadata names that are ours, not the object's.
_OWN_META = ("ferryman-", "x-oss-tag")
_UNSENDABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: Query parameter of a signed read to the header it replaces.
OVERRIDES = {
    "response-content-type": b"content-type",
    "response-content-language": b"content-language",
    "response-expires": b"expires",
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": b"content-encoding",
}


def raw(value: str) -> bytes:
    """Bytes of a header value as they stood on the wire (aiohttp reads them as UTF-8 with escapes)."""
    return value.encode("utf-8", "surrogateescape")


def from_store(info: ObjectInfo) -> RawHeaders:
    """Headers of a stored object without length and range; replayed ones replace the store's own."""
    headers: dict[bytes, bytes] = {b"accept-ranges": b"bytes"}
    for name, value in info.headers:
        headers[name.lower().encode("latin-1")] = raw(value)
    if info.etag:
        headers[b"etag"] = b'"%s"' % info.etag.encode("latin-1", "replace")
    if info.last_modified:
        headers[b"last-modified"] = _http_date(info.last_modified)
    coding = headers.get(b"content-encoding")
    if coding is not None and b"aws-chunked" in coding.lower():
        headers[b"content-encoding"] = content_encoding(coding.decode("latin-1")).encode("latin-1")
        if not headers[b"content-encoding"]:
            del headers[b"content-encoding"]
    ours = is_mirrored(info)
    if ours and NO_TYPE in info.user_meta:
        headers.pop(b"content-type", None)  # the store made it up
    for name, value in info.user_meta.items():
        if not (ours and name.startswith(_OWN_META)):
            headers[b"x-amz-meta-" + name.encode("latin-1", "replace")] = raw(value)
    for name, value in replay_headers(info):
        if not name.startswith("x-amz-meta-ferryman-"):
            headers[name.lower().encode("latin-1")] = raw(value)
    return sendable(headers.items())


@lru_cache(maxsize=4096)
def _http_date(seconds: float) -> bytes:
    """Remembered, as those that are read are: objects of one deployment share theirs."""
    return formatdate(seconds, usegmt=True).encode("ascii")


def store_validators(headers: RawHeaders) -> Validators:
    """Validators as the client sees them: what is replayed of the origin's counts (F45, F62)."""
    etag = modified = None
    for name, value in headers:
        if name == b"etag":
            etag = _entity_tag(value.decode("utf-8", "surrogateescape"))
        elif name == b"last-modified":
            modified = http_seconds(value.decode("latin-1"))
    return Validators(etag=etag, last_modified=modified)


def _entity_tag(value: str) -> str:
    """An ETag with its quotes, which some origins leave out."""
    text = value.strip()
    return text if text.endswith('"') else f'"{text}"'


def from_origin(
    headers: Iterable[tuple[str, str]],
    meta: ObjectMeta,
    *,
    user_meta: bool,
    set_headers: Iterable[Header] = (),
    vary: bool = False,
) -> RawHeaders:
    """Headers of an answer that comes straight from the origin (A1), without length.

    The seven headers and the validators are the origin's bytes; kept metadata stands under the origin's own
    names and, as on every later hit, under `x-amz-meta-`. `set_headers` (F41) replace what is there.
    With `vary`, caches on the way to the client are told on what the answer depends (F61).
    """
    out: RawHeaders = [(b"accept-ranges", b"bytes")]
    for name, value in headers:
        shown, condition = _as_shown(name)
        if shown is None or (condition == "vary" and not vary) or (condition == "meta" and not user_meta):
            continue
        if condition == "coding" and not (value := content_encoding(value)):
            continue
        out.append((shown, value.encode("utf-8", "surrogateescape")))
    for name, value in meta.user_meta:
        if name == "x-oss-tag":
            out.append((b"x-oss-tag", raw(decode_value(value))))
        elif not name.startswith(_OWN_META):
            out.append((b"x-amz-meta-" + name.encode("latin-1", "replace"), raw(decode_value(value))))
    return with_set(sendable(out), set_headers)


@lru_cache(maxsize=256)
def _as_shown(name: str) -> tuple[bytes | None, Literal["", "coding", "vary", "meta"]]:
    """The name under which a client sees an origin's header, None for never, and on what that depends.

    Remembered, as answers repeat their names.
    """
    lower = name.lower()
    if lower.startswith(_USER_META):
        known = not lower.startswith("x-amz-meta-")
        return (lower.encode("latin-1", "replace") if known else None), "meta"
    if lower not in KEPT and lower not in {"etag", "last-modified", "vary"}:
        return None, ""
    condition: Literal["", "coding", "vary"] = (
        "coding" if lower == "content-encoding" else "vary" if lower == "vary" else ""
    )
    return lower.encode("latin-1"), condition


def with_set(headers: RawHeaders, set_headers: Iterable[Header]) -> RawHeaders:
    """F41: each of these replaces all headers of its name."""
    for header in set_headers:
        name = header.name.lower().encode("latin-1")
        headers = [pair for pair in headers if pair[0] != name]
        headers += sendable([(name, raw(header.value))])
    return headers


def with_overrides(headers: RawHeaders, pairs: Iterable[tuple[str, str]]) -> RawHeaders | None:
    """`response-*` parameters of a query (decoded) replace headers; None when a value cannot be a header."""
    for parameter, value in pairs:
        name = OVERRIDES.get(parameter.lower())
        if name is None:
            continue
        sent = value.encode()
        if _UNSENDABLE.search(sent) is not None:
            return None
        headers = [pair for pair in headers if pair[0] != name]
        headers.append((name, sent))
    return headers


def origin_validators(headers: Iterable[tuple[str, str]]) -> Validators:
    """Validators of an origin's answer (A21)."""
    etag = modified = None
    for name, value in headers:
        lower = name.lower()
        if lower == "etag":
            etag = _entity_tag(value)
        elif lower == "last-modified":
            modified = http_seconds(value)
    return Validators(etag=etag, last_modified=modified)


def sendable(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Without what HTTP/1.1 cannot carry: an odd header of an origin never breaks the answer."""
    pairs = [(name, value.strip(b" \t")) for name, value in headers]
    names = b"".join([name or b" " for name, _ in pairs])
    if not pairs or (_TOKEN.fullmatch(names) and not _UNSENDABLE.search(b"".join([one for _, one in pairs]))):
        return pairs
    return [
        (name, value)
        for name, value in pairs
        if _TOKEN.fullmatch(name) is not None and _UNSENDABLE.search(value) is None
    ]
