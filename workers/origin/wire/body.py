"""Reading one answer's body: what ends it, and what went wrong.

Owns the framing of a body (length, chunked, close) and the translation of what a connection raises while it
is read: a short body of known length, a missing last chunk and a reset are a ClientPayloadError, a broken
chunk is an HttpProcessingError, and a body that is read to close and was reset ends, and says so.
"""

from __future__ import annotations

from typing import Literal, Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from workers.errors import OriginError, OriginMalformed, OriginTimeout, OriginTruncated

Framing = Literal["length", "chunked", "close"]


class Head(Protocol):
    """The head of an answer, as far as its framing goes."""

    def header(self, name: str) -> str | None:
        """The first value of a header."""


def framing_of(answer: Head, *, method: str, origin: str) -> tuple[Framing, int | None]:
    """How the body ends, and its length in bytes where that is known beforehand.

    Raises:
        OriginMalformed: a transfer coding beside `chunked`, which nobody asked for.
    """
    coding = answer.header("transfer-encoding")
    if coding is not None:
        codings = [part.strip().lower() for part in coding.split(",") if part.strip()]
        if codings != ["chunked"]:
            raise OriginMalformed(f"{origin}: Transfer-Encoding {coding!r} was not asked for", origin=origin)
        return "chunked", None
    length = answer.header("content-length")
    if length is not None and length.isascii() and length.isdigit():
        return "length", int(length)
    return ("length", None) if method == "HEAD" else ("close", None)


def body_error(
    error: BaseException, *, origin: str, got: int, expected: int | None, idle_s: float
) -> OriginError:
    """Our error for an exception that reading a body raised."""
    if isinstance(error, TimeoutError):
        return OriginTimeout(
            f"{origin}: no byte for {idle_s:g} s after {got} bytes", origin=origin, phase="idle"
        )
    if isinstance(error, HttpProcessingError):
        return OriginTruncated(
            f"{origin}: broken chunk after {got} bytes", origin=origin, got=got, expected=expected
        )
    promised = f"of {expected} bytes" if expected is not None else "bytes and no last chunk"
    return OriginTruncated(
        f"{origin}: the body ended after {got} {promised}", origin=origin, got=got, expected=expected
    )


#: What reading a body may raise; everything else is a fault of ours.
BODY_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError)
