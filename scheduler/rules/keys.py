"""From a client's request line to key, path and query: decoding, encoding, and what must not pass. PURE.

Owns sections 3.1 to 3.3 of SEMANTICS.md as functions of strings. Knows no rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes

from workers.errors import FerrymanError

#: L8, in bytes of UTF-8.
MAX_KEY_BYTES = 1024

#: First segment of the keys that are Ferryman's own.
RESERVED = ".ferryman"

#: What a path of ours does not show as it is (3.2), but for what is not ASCII.
_ENCODED = re.compile(r"[^A-Za-z0-9\-._~/]")
_PLAIN = re.compile(r"[A-Za-z0-9\-._~/]*")
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")
_NEVER_FORWARDED = re.compile(
    r"x-amz-.*|x-oss-.*|q-.*|x-cos-security-token|security-token|response-.*|versionid|partnumber",
    re.IGNORECASE | re.DOTALL,
)
_KEY_IDS = frozenset({"ossaccesskeyid", "awsaccesskeyid"})
_SIGNED_BY_KEY_ID = _KEY_IDS | {"expires", "signature"}
#: Nothing that 3.3 removes can be in a query that this does not find.
_SUSPECT = re.compile(
    r"%|x-amz-|x-oss-|q-|security-token|response-|versionid|partnumber|accesskeyid", re.IGNORECASE
)


class KeyRefused(FerrymanError):
    """A request path that names no object: `code` is the S3 error code, the status is 400."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPath:
    """What a request path names."""

    key: str
    #: Leading slashes that were removed from the key; some origins want them back (F35).
    leading_slashes: int = 0


def client_path(raw_path: bytes, *, strip_bucket: bool = False) -> ClientPath:
    """Key and leading slashes of a raw request path (without query); `strip_bucket` in path style (3.1).

    Raises:
        KeyRefused: `InvalidURI` for bytes that are not UTF-8, NUL or an empty key; `KeyTooLongError` above
            1024 bytes (L8).
    """
    raw = raw_path[1:] if raw_path.startswith(b"/") else raw_path
    if strip_bucket:
        raw = raw.partition(b"/")[2]
    decoded = unquote_to_bytes(raw) if b"%" in raw else raw
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise KeyRefused("the path is not UTF-8", code="InvalidURI") from error
    key = text.lstrip("/")
    if not key or "\0" in key:
        raise KeyRefused("the path names no object", code="InvalidURI")
    if len(key) > MAX_KEY_BYTES // 4 and len(key.encode()) > MAX_KEY_BYTES:
        raise KeyRefused(f"the key is longer than {MAX_KEY_BYTES} bytes", code="KeyTooLongError")
    return ClientPath(key=key, leading_slashes=len(text) - len(key))


def client_key(raw_path: bytes, *, strip_bucket: bool = False) -> str:
    """The key alone; see `client_path`."""
    return client_path(raw_path, strip_bucket=strip_bucket).key


def has_dot_segment(path: str) -> bool:
    """Whether a segment is `.` or `..` and could climb out of a base path (3.1).

    Backslashes separate here as well: some origins take them for slashes.
    """
    return "." in path and _DOT_SEGMENT.search(path) is not None


def is_reserved(key: str) -> bool:
    """Whether a key (decoded) is Ferryman's own: never served, never pulled.

    Stores have their own idea of a path: SeaweedFS takes a backslash for a slash and drops empty segments.
    So a key is read the way the most lenient store could.
    """
    if RESERVED not in key:
        return False
    segments: list[str] = []
    for segment in key.replace("\\", "/").split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return segments[:1] == [RESERVED]


def encode_path(path: str) -> str:
    """Percent-encode as in 3.2: `A-Z a-z 0-9 - . _ ~ /` stay, all else is `%XX` in upper case."""
    if _PLAIN.fullmatch(path):
        return path
    if not path.isascii():
        return quote(path, safe="/")
    odd = set(_ENCODED.findall(path))
    if "%" in odd:
        odd.remove("%")
        path = path.replace("%", "%25")
    for char in odd:
        path = path.replace(char, f"%{ord(char):02X}")
    return path


def forwarded_query(query: str) -> str:
    """The client's raw query without what must not reach an origin, byte for byte otherwise (3.3)."""
    if not query or _SUSPECT.search(query) is None:
        return query
    pairs = query.split("&")
    names = [unquote(pair.partition("=")[0]).lower() for pair in pairs]
    drop = _SIGNED_BY_KEY_ID if _KEY_IDS.intersection(names) else frozenset[str]()
    return "&".join(
        pair
        for pair, name in zip(pairs, names, strict=True)
        if name not in drop and _NEVER_FORWARDED.fullmatch(name) is None
    )
