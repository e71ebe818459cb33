"""Places in a list of keys, in the order of UTF-8 bytes. Pure.

Owns the arithmetic of places. A place is a string: the list goes on with the first key that is not less.
Python compares strings by code points, which is the order of their UTF-8 bytes.
"""

from __future__ import annotations

from typing import Final

#: Greater than every character that a key has in practice.
MAX: Final = "\U0010ffff"
_SURROGATES: Final = range(0xD800, 0xE000)


def behind_key(key: str) -> str:
    """The place right behind a key."""
    return f"{key}\0"


def behind_prefix(prefix: str) -> str:
    """The place behind all keys with a prefix."""
    last = ord(prefix[-1]) + 1
    if last in _SURROGATES:
        last = _SURROGATES.stop
    return prefix[:-1] + (chr(last) if last <= 0x10FFFF else MAX * 2)


def start_after(place: str) -> str:
    """What is given to a store as `start-after`, so that its list goes on at a place."""
    if place.endswith("\0"):
        return place[:-1]
    before = ord(place[-1]) - 1
    if before in _SURROGATES:
        before = _SURROGATES.start - 1
    return f"{place[:-1]}{chr(before)}{MAX}"


def common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    """What a key is rolled up to; None where it stands for itself."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]
