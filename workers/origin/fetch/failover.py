"""What an answer's status means for the fetch: success, absent, next candidate, or the end.

Pure. Owns B4, B5, A4 and the reading of Content-Range and Retry-After. Knows neither connections nor health.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from workers.errors import OriginError, OriginPartial, OriginStatus, OriginThrottled
from workers.http.dates import http_date
from workers.origin.wire.redirects import FOLLOWED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.plan import FetchPlan

#: Positions of more than 18 digits are nobody's, and Python refuses to read thousands of them.
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.IGNORECASE | re.ASCII)

#: No wait is longer, so that whoever calculates with one stays within what a clock can show; in seconds.
MAX_RETRY_AFTER_S = 365 * 86400.0


class Verdict(Enum):
    """What to do with an answer."""

    SUCCESS = auto()
    REDIRECT = auto()
    ABSENT = auto()
    SWITCH = auto()
    FINAL = auto()


@dataclass(frozen=True, slots=True)
class ContentRange:
    """First and last position, and the total size in bytes (None: `*`)."""

    first: int
    last: int
    total: int | None

    @property
    def covers_all(self) -> bool:
        """Whether this part is the whole object (A4)."""
        return self.first == 0 and self.total is not None and self.last == self.total - 1


def parse_content_range(value: str | None) -> ContentRange | None:
    """`bytes a-b/n`, or None where it is absent or makes no sense."""
    found = _CONTENT_RANGE.match(value.strip()) if value else None
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def judge(status: int, plan: FetchPlan, *, part: ContentRange | None, range_asked: bool) -> Verdict:
    """What a status means (A1 to A9, B4, B5); `part` is the answer's Content-Range."""
    if status == 200:
        # A part that calls itself whole is none (A4); one that covers everything is.
        return Verdict.SUCCESS if part is None or part.covers_all else Verdict.FINAL
    if status == 206 and part is not None and (range_asked or part.covers_all):
        return Verdict.SUCCESS
    if is_redirect(status, plan):
        # Those that are followed do not come here (F25).
        return Verdict.SWITCH if plan.switch_all else Verdict.REDIRECT
    if status in plan.switch_codes or status >= 500:
        return Verdict.SWITCH
    if status == 404:
        return Verdict.ABSENT
    return Verdict.SWITCH if plan.switch_all else Verdict.FINAL


def is_redirect(status: int, plan: FetchPlan) -> bool:
    """Whether a 3xx leads somewhere, and may be passed on (A8).

    A 304 or 305 answers a question that nobody asked, and a 300 offers a choice that only a client can make:
    without a rule that leaves redirects to clients they are failures like any other status.
    """
    return status in FOLLOWED or (status == 300 and not plan.redirects.follow)


def status_error(
    status: int, origin: str, *, retry_after: str | None, now: datetime | None = None
) -> OriginError:
    """The error that stands for a status that is no success."""
    wait_s = parse_retry_after(retry_after, now or datetime.now(UTC))
    if status == 429 or (status == 503 and wait_s is not None):
        return OriginThrottled(
            f"{origin} answered {status}", origin=origin, status=status, retry_after_s=wait_s
        )
    if status in {200, 206}:
        what = "206 unasked and not all of it" if status == 206 else "200 with the Content-Range of a part"
        return OriginPartial(f"{origin} answered {what}", origin=origin, status=status)
    return OriginStatus(f"{origin} answered {status}", origin=origin, status=status)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, at most a year, from a number or an HTTP date; None where it makes no sense."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    until = http_date(text)
    return None if until is None else min(max(0.0, (until - now).total_seconds()), MAX_RETRY_AFTER_S)


def all_say_absent(statuses: Sequence[int | None]) -> bool:
    """Whether the last candidate said 404 and every other one 404 or 410 (B5)."""
    return bool(statuses) and statuses[-1] == 404 and all(status in {404, 410} for status in statuses)
