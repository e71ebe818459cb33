"""What a fetch can end with besides the object's bytes.

Owns the small records between the fetch, the errors that it raises and those who answer a client. Pure;
imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]

#: Longest error body that is kept for a client (A10).
MAX_ERROR_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One candidate asked within a fetch: where, and how it ended (a status, or an error's reason)."""

    origin: str
    status: int | None = None
    error: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginAnswer:
    """A final answer that is no success; `body` only where asked for, `cut` beyond 1 MiB (A6, A10)."""

    status: int
    headers: Headers
    body: bytes = b""
    cut: bool = False

    def header(self, name: str) -> str | None:
        """The first value of `name`, without regard to case."""
        return first_header(self.headers, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Every candidate that was asked says that there is no such object (A5, B5)."""

    attempts: tuple[Attempt, ...]
    answer: OriginAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedRedirect:
    """A 3xx that the rule passes through, or that nobody can follow (A8); `location` byte for byte."""

    status: int
    location: str | None
    headers: Headers


def first_header(headers: Headers, lower_name: str) -> str | None:
    """The first value of a header, or None; `lower_name` in lower case."""
    for name, value in headers:
        if name.lower() == lower_name:
            return value
    return None
