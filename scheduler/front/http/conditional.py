"""Conditional requests: does this answer still count for that client? (RFC 9110, section 13)

Owns the comparison of `If-*` headers with the validators of one representation, be it the stored object or
the origin's answer. Pure: knows neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from workers.http.dates import http_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

_ETAG = re.compile(r'(?:W/)?"[^"]*"')


class Verdict(Enum):
    """What a conditional GET or HEAD gets."""

    #: Every condition holds: the usual answer.
    PROCEED = "proceed"
    #: 304.
    NOT_MODIFIED = "not_modified"
    #: 412.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What identifies a representation: `etag` with quotes (and `W/`), `last_modified` in Unix seconds."""

    etag: str | None = None
    last_modified: float | None = None


def has_conditions(headers: Mapping[str, str]) -> bool:
    """Whether any precondition header is present (names lower-case); `If-Range` is none of them."""
    return (
        "if-none-match" in headers
        or "if-modified-since" in headers
        or "if-match" in headers
        or "if-unmodified-since" in headers
    )


def evaluate(headers: Mapping[str, str], validators: Validators) -> Verdict:
    """Judge all four preconditions of a GET or HEAD in the order of RFC 9110, 13.2.2."""
    if not precondition_holds(headers, validators):
        return Verdict.FAILED
    none_match = headers.get("if-none-match")
    if none_match is not None:
        matched = _in_list(none_match, validators.etag, weak=True, exists=True)
        return Verdict.NOT_MODIFIED if matched else Verdict.PROCEED
    since = headers.get("if-modified-since")
    if since is not None and validators.last_modified is not None:
        limit = http_seconds(since)
        if limit is not None and int(validators.last_modified) <= limit:
            return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def precondition_holds(headers: Mapping[str, str], validators: Validators) -> bool:
    """Judge `If-Match`, or without it `If-Unmodified-Since`; a missing validator fails them (A21).

    `If-Match: *` holds for any existing representation. A date that is none is ignored.
    """
    match = headers.get("if-match")
    if match is not None:
        return _in_list(match, validators.etag, weak=False, exists=True)
    unmodified = headers.get("if-unmodified-since")
    if unmodified is not None:
        limit = http_seconds(unmodified)
        if limit is None:
            return True
        return validators.last_modified is not None and int(validators.last_modified) <= limit
    return True


def if_range_holds(value: str, validators: Validators) -> bool:
    """Whether `If-Range` lets the range count: same strong ETag, or the very same date (RFC 9110, 13.1.5)."""
    text = value.strip()
    if text.startswith(('"', "W/")):
        return _strong_equal(text, validators.etag)
    moment = http_seconds(text)
    return (
        moment is not None
        and validators.last_modified is not None
        and int(validators.last_modified) == int(moment)
    )


def _in_list(value: str, etag: str | None, *, weak: bool, exists: bool) -> bool:
    text = value.strip()
    if text == "*":
        return exists
    if etag is None:
        return False
    candidates = _ETAG.findall(text)
    if not candidates:
        candidates = [f'"{text}"']  # a bare token, as some S3 clients send it
    if weak:
        return any(_opaque(candidate) == _opaque(etag) for candidate in candidates)
    return any(_strong_equal(candidate, etag) for candidate in candidates)


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")


def _strong_equal(one: str, other: str | None) -> bool:
    return other is not None and one == other and not one.startswith("W/")
