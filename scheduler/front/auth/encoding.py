"""How the schemes spell paths, queries and times before they are signed. Pure.

Two spellings of a path or query are signed in the wild: as sent, and decoded once and encoded again. Both
name the same resource, so a verifier may accept either without widening what a signature allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

from workers.http.dates import http_seconds

#: What every scheme leaves unencoded; letters and digits always are.
_UNRESERVED = "-_.~"
_SPACES = re.compile(" {2,}")


def encode(value: bytes, *, slash: bool = False) -> bytes:
    """Percent-encode in upper-case hex all but the unreserved characters, and `/` when `slash`."""
    return quote_from_bytes(value, safe=_UNRESERVED + "/" if slash else _UNRESERVED).encode()


def respell_path(raw: bytes) -> bytes:
    """Decode a path once and encode it again, slashes kept."""
    return encode(unquote_to_bytes(raw), slash=True)


@dataclass(frozen=True, slots=True)
class _Query:
    """A raw query, taken apart once."""

    pairs: tuple[tuple[bytes, bytes], ...]
    #: Encoded value by encoded name; None where the name is given twice.
    values: dict[bytes, bytes | None]


@lru_cache(maxsize=64)
def _taken_apart(query: bytes) -> _Query:
    """A verifier asks for one parameter after the other: the query of the request at hand is kept."""
    pairs = []
    values: dict[bytes, bytes | None] = {}
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((name, value))
            values[name] = None if name in values else value
    return _Query(tuple(pairs), values)


def query_pairs(query: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The pairs of a raw query, still encoded, in order; a name without `=` has an empty value."""
    return _taken_apart(query).pairs


def decode_query(raw: bytes) -> bytes:
    """One name or value decoded; `+` is a space, as HTTP libraries write it in queries."""
    return unquote_to_bytes(raw.replace(b"+", b" ")) if b"%" in raw or b"+" in raw else raw


def query_value(query: bytes, name: str) -> str | None:
    """The decoded value of a parameter; None when it is absent, and also when it is given twice."""
    found = _taken_apart(query).values.get(name.encode())
    return None if found is None else decode_query(found).decode("latin-1")


def has_query(query: bytes, *names: str) -> bool:
    """Whether one of the parameters is in the query."""
    values = _taken_apart(query).values
    return any(name.encode() in values for name in names)


def query_headers(query: bytes) -> dict[str, str]:
    """The `x-amz-` parameters of a query, which stand for headers: by lower-case name, several values joined.

    What no header can hold is none. Who signs and who acts read them by this, so that nothing is taken for a
    header that a signature did not see as one.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in query_pairs(query):
        name = decode_query(raw_name).decode("latin-1").lower()
        value = decode_query(raw_value).decode("latin-1")
        if name.startswith("x-amz-") and name.isprintable() and value.isprintable():
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


def trimmed(value: str) -> str:
    """A header's value as the schemes sign it: no blanks around it, each run of spaces within as one.

    Only blanks of ASCII: the bytes of `à` in UTF-8 end with one of Latin-1.
    """
    value = value.strip(" \t")
    return _SPACES.sub(" ", value) if "  " in value else value


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
    digits = text[:8] + text[9:15]
    if len(text) != 16 or text[8] + text[15] != "TZ" or not (digits.isascii() and digits.isdecimal()):
        return None
    day = (int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    try:
        moment = datetime(*day, int(digits[8:10]), int(digits[10:12]), int(digits[12:14]), tzinfo=UTC)
        return moment.timestamp()
    except ValueError:
        return None


def http_time(text: str) -> float | None:
    """An HTTP date, or the compact form, as Unix seconds; None when it is neither."""
    compact = compact_time(text)
    return http_seconds(text) if compact is None else compact


def integer(text: str | None) -> int | None:
    """A plain decimal of at most twelve digits; None otherwise."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 12:
        return None
    return int(text)
