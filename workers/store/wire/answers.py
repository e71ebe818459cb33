"""What the store's answers mean: errors of the tree, object records, XML of multipart answers.

Owns the translation of S3's statuses, codes and headers. Pure: gets finished answers, sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lxml import etree

from workers.errors import (
    KeyNotRepresentable,
    StoreCorrupted,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreThrottled,
    StoreUnavailable,
)
from workers.http.dates import http_seconds
from workers.store.model import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.store.model import StoreAnswer

META_PREFIX: Final = "x-amz-meta-"

#: Headers of an object that are the object's own; the rest of an answer is the store's.
SYSTEM_HEADERS: Final = frozenset({
    "content-type", "content-encoding", "content-disposition", "cache-control", "content-language", "expires",
})  # fmt: skip

#: Codes that mean "later", whatever their status.
_THROTTLED: Final = frozenset({
    "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests",
    "RequestLimitExceeded", "BandwidthLimitExceeded", "XMinioServerNotInitialized", "ServiceUnavailable",
})  # fmt: skip

#: 4xx codes that a second identical request may not meet.
_TRANSIENT: Final = frozenset(
    {"RequestTimeout", "IncompleteBody", "OperationAborted", "RequestTimeTooSkewed"}
)

#: The bytes that arrived are not the bytes that were described.
_DAMAGED: Final = frozenset({
    "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
    "ContentSHA256Mismatch",
})  # fmt: skip

_CREDENTIALS: Final = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})

#: The store says that it cannot have such a key.
_KEY: Final = frozenset({"KeyTooLongError", "KeyTooLong", "InvalidObjectName", "XMinioInvalidObjectName"})

#: Both vendors' word for "somebody's object is there" on a forbid-overwrite header.
EXISTS_CODES: Final = frozenset({"FileAlreadyExists", "ObjectAlreadyExists", "PreconditionFailed"})

#: Names as stores spell them, met before: of user metadata, without the prefix, and those of which nothing is
#: kept; so many of each at most.
_SHORT: Final[dict[str, str]] = {}
_DULL: Final[set[str]] = set()
_MOST_NAMES: Final = 1000

#: XML may not name entities or load anything.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)


def _text(root: etree._Element, name: str) -> str:
    found = root.find(f"{{*}}{name}")
    return (found.text or "") if found is not None else ""


def error_code(body: bytes) -> tuple[str, str]:
    """Code and message of an S3 error document; both empty when there is none."""
    text = body.strip()
    if text[:1] != b"<":
        return "", ""
    try:
        root = etree.fromstring(text, _PARSER)
    except etree.XMLSyntaxError:
        return "", ""
    if etree.QName(root).localname != "Error":
        return "", ""
    return _text(root, "Code"), _text(root, "Message")


def failure(answer: StoreAnswer, *, what: str) -> StoreError:
    """The error for a refusal; `what` says what was asked (`PUT bucket/key`).

    `retry_after_s` is set when the store named a time. Never raises.
    """
    code, message = error_code(answer.body)
    status = answer.status
    text = f"{what}: {status} {code}".rstrip() + (f": {message[:200]}" if message else "")
    kind: type[StoreError] = StoreRejected
    if status == 429 or code in _THROTTLED:
        kind = StoreThrottled
    elif code in _DAMAGED:
        kind = StoreCorrupted
    elif code in _TRANSIENT or code in _CREDENTIALS or (status >= 500 and status not in {501, 505}):
        kind = StoreUnavailable
    elif status in {401, 403}:
        kind = StoreDenied
    elif code in _KEY:
        kind = KeyNotRepresentable
    elif status == 409:
        kind = StoreUnavailable
    error = kind(text, status=status, code=code or None)
    after = answer.headers.get("Retry-After", "")
    if after.isdecimal() and len(after) <= 9:
        error.retry_after_s = float(after)
    return error


def wants_new_credentials(error: StoreError) -> bool:
    """Whether the refusal says that the session token is too old."""
    return error.code in _CREDENTIALS


def unquote_etag(value: str) -> str:
    """An ETag without its quotes (and without the weak mark)."""
    return value.removeprefix("W/").strip('"')


def http_date(value: str) -> float:
    """Unix time of an HTTP date; 0 when it is none."""
    return (http_seconds(value) or 0.0) if value else 0.0


def object_info(key: str, headers: Iterable[tuple[str, str]]) -> ObjectInfo:
    """The record of an object from the headers of a HEAD or GET answer; a range's total is its size."""
    size = 0
    total: int | None = None
    etag = ""
    modified = 0.0
    system: list[tuple[str, str]] = []
    meta: dict[str, str] = {}
    for name, value in headers:
        short = _SHORT.get(name)
        if short is not None:
            meta[short] = value
            continue
        if name in _DULL:
            continue
        lower = name.lower()
        if lower.startswith(META_PREFIX):
            meta[_shortened(name)] = value
        elif lower in SYSTEM_HEADERS:
            system.append((name, value))
        elif lower == "content-length":
            size = _bytes(value) or 0
        elif lower == "etag":
            etag = unquote_etag(value)
        elif lower == "last-modified":
            modified = http_date(value)
        elif lower == "content-range":
            total = _bytes(value.rpartition("/")[2])
        elif len(_DULL) < _MOST_NAMES:
            _DULL.add(name)
    return ObjectInfo(
        key=key,
        size=size if total is None else total,
        etag=etag,
        last_modified=modified,
        headers=tuple(system),
        user_meta=meta,
    )


def _shortened(name: str) -> str:
    """The name of user metadata without its prefix."""
    short = name.lower()[len(META_PREFIX) :]
    if len(_SHORT) < _MOST_NAMES:
        _SHORT[name] = short
    return short


def _bytes(text: str) -> int | None:
    """A number of bytes; None when it is none that an object can have."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def parse(answer: StoreAnswer, *, what: str) -> etree._Element:
    """The root of an XML answer; blanks before it are a store's way of saying that it still works.

    Raises:
        StoreUnavailable: it is not well-formed (cut short, or a proxy's page).
    """
    try:
        return etree.fromstring(answer.body.strip(), _PARSER)
    except etree.XMLSyntaxError as error:
        raise StoreUnavailable(f"{what}: unreadable answer: {error}", status=answer.status) from error


def field(root: etree._Element, name: str) -> str:
    """Text of a child element, any namespace; empty when absent."""
    return _text(root, name)


def checksum_header(headers: Mapping[str, str], kind: str) -> str:
    """The value of `x-amz-checksum-<kind>` in an answer; empty when absent."""
    return headers.get(f"x-amz-checksum-{kind}", "")
