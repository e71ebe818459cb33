"""Values inside log lines: escapes, times, request lines and targets. PURE."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from functools import lru_cache
from time import mktime
from typing import Literal

Scheme = Literal["http", "https"]

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_CLF = re.compile(r"(\d{1,2})/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d)(\.\d+)?(?: ([+-])(\d\d)(\d\d))?")
#: Nanoseconds have 19 digits until the year 2286; a longer number is no time.
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")

_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"b": b"\b", b"f": b"\f"}
_JSON_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_HASH = re.compile(rb"#([0-9A-Fa-f]{2})")


def unescape_c(value: bytes) -> bytes:
    r"""Undo `\xHH`, `\"`, `\\`, `\n`: nginx (`escape=default`), Apache and Varnish."""
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(_c_escape, value)


def _c_escape(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes([int(found[1], 16)])
    return _LETTERS.get(found[2], found[2])


def unescape_json(value: bytes) -> bytes:
    """Undo JSON's escapes, byte-wise: nginx (`escape=json`) leaves bytes above 127 as they are."""
    if b"\\" not in value:
        return value
    return _JSON_ESCAPE.sub(_json_escape, value)


def _json_escape(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return chr(int(found[1], 16)).encode("utf-8", "surrogatepass")
    return _LETTERS.get(found[2], found[2])


def unescape_hash(value: bytes) -> bytes:
    """Undo HAProxy's `#HH`."""
    return _HASH.sub(lambda found: bytes([int(found[1], 16)]), value) if b"#" in value else value


def unescape_none(value: bytes) -> bytes:
    """The value as it is."""
    return value


@lru_cache(maxsize=4096)
def parse_time(text: str) -> float:
    """Unix seconds of a log's time: CLF, ISO 8601, or seconds, milli-, micro- or nanoseconds since 1970.

    A time without zone is local, as the program that wrote it meant it. 0.0 when it is none of these.
    """
    if _NUMBER.fullmatch(text):
        value = float(text)
        while value > 1e11:
            value /= 1000
        return value
    found = _CLF.search(text)
    if found is not None:
        day, name, year, hour, minute, second, fraction, sign, zone_h, zone_m = found.groups()
        month = _MONTHS.get(name)
        if month is None:
            return 0.0
        parts = (int(year), month, int(day), int(hour), int(minute), int(second), 0, 1, -1)
        try:
            base = mktime(parts) if sign is None else float(timegm(parts))
        except (ValueError, OverflowError):
            return 0.0
        if sign is not None:
            offset = int(zone_h) * 3600 + int(zone_m) * 60
            base += -offset if sign == "+" else offset
        return base + float(fraction or 0)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def split_request(request: bytes) -> tuple[bytes, bytes] | None:
    """(method, target) of a request line; None for `-`, garbage, and what is no request line."""
    method, separator, rest = request.partition(b" ")
    if not separator or not method.isalpha():
        return None
    target, separator, version = rest.rpartition(b" ")
    if not separator or not version.startswith(b"HTTP/"):
        target = rest
    return (method, target) if target else None


def split_target(target: bytes) -> tuple[bytes, str, str, Scheme | None]:
    """(path, query, host, scheme) of a request target in origin form or absolute form."""
    host = ""
    scheme: Scheme | None = None
    if target[:1] != b"/" and target[:8].lower().startswith((b"http://", b"https://")):
        name, _, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        bare, question, query = authority.partition(b"?")
        scheme = "https" if name.lower() == b"https" else "http"
        host = bare_host(bare.decode("latin-1"))
        target = slash + path if not question else b"/?" + query + slash + path
    path, _, raw_query = target.partition(b"?")
    return path, text(raw_query), host, scheme


def bare_host(value: str) -> str:
    """`Host` in lower case without user info and port; `-` is empty; IPv6 keeps its brackets."""
    value = value.rpartition("@")[2].strip().lower()
    if value == "-":
        return ""
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0]


def text(value: bytes | None) -> str:
    """Bytes of a log as text; what is not UTF-8 is replaced; `-` and None are empty."""
    if value is None or value == b"-":
        return ""
    return value.decode("utf-8", "replace")


def status_of(value: bytes | str) -> int:
    """An HTTP status; 0 for what is none."""
    return int(value) if len(value) <= 3 and value.isdigit() and value.isascii() else 0


def scheme_of(value: str) -> Scheme | None:
    """`http` or `https`, else None."""
    value = value.lower()
    return "https" if value == "https" else "http" if value == "http" else None
