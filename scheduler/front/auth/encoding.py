"""How the schemes spell paths, queries and times before they are signed. Pure.

Two spellings of a path or query are signed in the wild: as sent, and decoded once and encoded again. Both
name the same resource, so a verifier may accept either without widening what a signature allows.
"""

from __future__ import annotations

import calendar
import time
from email.utils import parsedate_to_datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes

#: What every scheme leaves unencoded; letters and digits always are.
_UNRESERVED = "-_.~"


def encode(value: bytes, *, slash: bool = False) -> bytes:
    """Percent-encode in upper-case hex all but the unreserved characters, and `/` when `slash`."""
    return quote_from_bytes(value, safe=_UNRESERVED + "/" if slash else _UNRESERVED).encode()


def respell_path(raw: bytes) -> bytes:
    """Decode a path once and encode it again, slashes kept."""
    return encode(unquote_to_bytes(raw), slash=True)


def query_pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs of a raw query, still encoded, in order; a name without `=` has an empty value."""
    pairs = []
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((name, value))
    return pairs


def decode_query(raw: bytes) -> bytes:
    """One name or value decoded; `+` is a space, as HTTP libraries write it in queries."""
    return unquote_to_bytes(raw.replace(b"+", b" "))


def query_value(query: bytes, name: str) -> str | None:
    """The decoded value of a parameter; None when it is absent, and also when it is given twice."""
    wanted = name.encode()
    found = [value for given, value in query_pairs(query) if given == wanted]
    return decode_query(found[0]).decode("latin-1") if len(found) == 1 else None


def has_query(query: bytes, *names: str) -> bool:
    """Whether one of the parameters is in the query."""
    wanted = {name.encode() for name in names}
    return any(given in wanted for given, _ in query_pairs(query))


def fields(text: str, separator: str) -> dict[str, str]:
    """`a=1<separator>b=2` as a dict, names as sent; a repeated name is dropped, because it is ambiguous."""
    found: dict[str, str] = {}
    repeated: set[str] = set()
    for part in text.split(separator):
        name, equals, value = part.strip().partition("=")
        if not equals:
            continue
        if name in found:
            repeated.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name not in repeated}


def compact_time(text: str) -> float | None:
    """`20261121T034841Z` as Unix seconds; None when it is not of that form."""
    if len(text) != 16 or not text.isascii():
        return None
    try:
        return float(calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return None


def http_time(text: str) -> float | None:
    """An HTTP date, or the compact form, as Unix seconds; None when it is neither."""
    compact = compact_time(text)
    if compact is not None:
        return compact
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def integer(text: str | None) -> int | None:
    """A plain decimal of at most twelve digits; None otherwise."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 12:
        return None
    return int(text)
