"""Continuing a broken body where it stopped (SEMANTICS.md B6).

Pure. Owns when a body may be continued, with which request headers, and whether the answer really continues
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.answers import first_header
from workers.http.dates import http_date
from workers.origin.fetch.failover import parse_content_range

if TYPE_CHECKING:
    from workers.answers import Headers

#: A Last-Modified is a strong validator when it is at least this much older than Date; in seconds.
SAFE_AGE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What is needed to continue one body: its validator and the positions it covers in the object."""

    validator: str
    #: First position of the body in the object, and the position behind its last one.
    first: int
    end: int
    #: Size of the whole object.
    total: int

    def request(self, got: int) -> list[tuple[str, str]]:
        """Headers that ask for what is missing after `got` bytes."""
        return [("Range", f"bytes={self.first + got}-{self.end - 1}"), ("If-Range", self.validator)]

    def continues(self, status: int, headers: Headers, got: int) -> bool:
        """Whether an answer is exactly the missing part of the same object."""
        if status != 206:
            return False
        part = parse_content_range(first_header(headers, "content-range"))
        if part is None or part.total != self.total:
            return False
        # An origin may know Range and not If-Range: what it says of the object now counts, too.
        name = "etag" if self.validator.startswith('"') else "last-modified"
        if first_header(headers, name) not in {None, self.validator}:
            return False
        return part.first == self.first + got and part.last == self.end - 1


def strong_validator(headers: Headers) -> str | None:
    """The value for `If-Range`: a strong ETag, else a Last-Modified that is surely older than the answer."""
    etag = first_header(headers, "etag")
    if etag is not None and len(etag) > 2 and etag.startswith('"') and etag.endswith('"'):
        return etag
    modified = first_header(headers, "last-modified")
    changed, answered = http_date(modified or ""), http_date(first_header(headers, "date") or "")
    if changed is None or answered is None:
        return None
    return modified if (answered - changed).total_seconds() >= SAFE_AGE_S else None


def resumption(status: int, headers: Headers, length: int | None) -> Resumption | None:
    """How a body of `length` bytes can be continued, or None when it cannot."""
    if length is None or length == 0:
        return None
    validator = strong_validator(headers)
    if validator is None:
        return None
    if (first_header(headers, "accept-ranges") or "").strip().lower() == "none":
        return None
    if status != 206:
        return Resumption(validator=validator, first=0, end=length, total=length)
    part = parse_content_range(first_header(headers, "content-range"))
    if part is None or part.total is None or part.last + 1 - part.first != length:
        return None
    return Resumption(validator=validator, first=part.first, end=part.last + 1, total=part.total)
