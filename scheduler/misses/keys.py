"""Which object a record names: decoding exactly once, and what is no key. PURE.

Source: SEMANTICS.md 3.1 and L8. Control characters are refused here already: no such key is stored, whichever
way it comes (`workers.plan.unlistable`).
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from scheduler.misses.refusals import Refused
from workers.plan import unlistable

MAX_KEY_BYTES = 1024


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
    if unlistable(key) is not None:
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
