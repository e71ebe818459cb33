"""HTTP dates as they come from strangers: read, or not; never an exception. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

#: Dates that are remembered: objects of one deployment share theirs, and each is read several times.
_REMEMBERED = 4096


@lru_cache(maxsize=_REMEMBERED)
def http_date(text: str) -> datetime | None:
    """The moment that an HTTP date names, in any of its forms; None where it names none.

    One without a zone is taken for UTC.
    """
    try:
        moment = parsedate_to_datetime(text.strip())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def http_seconds(text: str) -> float | None:
    """The same as Unix time in seconds."""
    moment = http_date(text)
    return None if moment is None else moment.timestamp()
