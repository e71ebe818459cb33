"""Which object a record names: decoding exactly once, and what is no key. PURE.

Source: SEMANTICS.md 3.1 and L8. Stricter than the gateway in one point: control characters are refused, since
no browser sends them and a log line that shows one is mostly damaged.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from scheduler.misses.refusals import Refused

MAX_KEY_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def key_of_path(path: bytes, *, decoded: bool = False) -> str | Refused:
    """The key of a raw request path (bucket already cut); `decoded` when the sender had decoded it."""
    raw = path if decoded or b"%" not in path else unquote_to_bytes(path)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return Refused(reason="not_utf8", detail=f"{path[:200]!r} is not UTF-8")
    return checked_key(text)


def checked_key(text: str) -> str | Refused:
    """An already decoded object name without leading slashes, or why it is no key."""
    key = text.lstrip("/")
    if not key:
        return Refused(reason="empty_key", detail="the record names no object")
    if _CONTROL.search(key) is not None:
        return Refused(reason="control_character", detail=f"{key[:200]!r} has a control character")
    if len(key) > MAX_KEY_BYTES // 4:
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            return Refused(reason="not_utf8", detail=f"{key[:200]!r} is not UTF-8")
        if size > MAX_KEY_BYTES:
            return Refused(reason="key_too_long", detail=f"{size} bytes; at most {MAX_KEY_BYTES} are allowed")
    elif not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return Refused(reason="not_utf8", detail=f"{key[:200]!r} is not UTF-8")
    return key
