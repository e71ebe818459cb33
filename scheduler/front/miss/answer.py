"""What a client gets when a pull gave no body: 404, 424, the origin's own error, a 3xx, or "later".

Owns the rows A5, A6, A8 to A11, A14 and A25 of SEMANTICS.md. No message names an address: the reason of a
failure is one of the constants of `workers.errors`, and the log has the rest under the same request id.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.object_headers import raw, sendable, with_set
from scheduler.front.pull.fill import Failed, InStore, NotFound, PassedOn
from workers.errors import BudgetExhausted, OriginError, OriginsExhausted, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.front.http.answer import Answer
    from scheduler.front.http.object_headers import RawHeaders
    from scheduler.front.http.target import Target
    from scheduler.rules.model import Rule
    from workers.errors import TransferError
    from workers.origin.fetch.fetcher import OriginAnswer

log = structlog.get_logger()

#: Of the origin's error, what goes to the client with the body (A10): what the body is, what to do about the
#: status (RFC 9110), and whether others may keep it.
_SHOWN = frozenset(
    {
        "content-type",
        "content-encoding",
        "content-language",
        "retry-after",
        "www-authenticate",
        "allow",
        "cache-control",
        "expires",
    }
)
#: Seconds of patience after an origin's 429 or 503 that names none.
RETRY_AFTER_S = 5.0


def keeps_error_body(rule: Rule) -> bool:
    """Whether the origin's own error answers may be needed (F28, F37)."""
    return rule.answer.transparent != "none" or rule.origin.async_status is not None


def is_transparent(rule: Rule, status: int) -> bool:
    """Whether the origin's status and body go to the client (F37)."""
    shown = rule.answer.transparent
    if shown == "none":
        return False
    # A 204 is no error of the origin's, and beyond 599 nothing is a status (RFC 9110, 15).
    return 400 <= status <= 599 if shown == "all" else status in shown


async def send_opening(
    answer: Answer, target: Target, rule: Rule, opening: NotFound | PassedOn | Failed | InStore
) -> str:
    """Answer for an opening without a body; what it was, for the counters."""
    match opening:
        case NotFound():
            await send_not_found(answer, target, rule, opening)
            return "absent"
        case PassedOn():
            headers = [] if opening.location is None else [(b"location", raw(opening.location))]
            await answer.whole(opening.status, sendable(headers))
            return "passed_redirect"
        case Failed():
            return await send_failed(answer, target, rule, opening)
        case InStore():  # stored, and gone again before we read it
            await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
            return "absent"
        case _:
            assert_never(opening)


async def send_not_found(answer: Answer, target: Target, rule: Rule, opening: NotFound) -> None:
    """A5, or A6 with the origin's own page."""
    kept = opening.answer
    if kept is not None and is_transparent(rule, kept.status):
        await _send_kept(answer, kept, rule)
    else:
        await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)


async def send_failed(answer: Answer, target: Target, rule: Rule, failed: Failed) -> str:
    """A9 to A11, A14, A25, and a store that does not answer; and one line that tells the operator why."""
    what = await _send_failed(answer, target, rule, failed)
    cause = root(failed.error)
    if not isinstance(cause, BudgetExhausted):
        log.info(
            "miss_failed",
            key=target.key,
            answered=answer.status,
            origin=cause.origin if isinstance(cause, OriginError) else "",
            origin_status=cause.status if isinstance(cause, OriginError | StoreError) else None,
            reason=cause.reason,
            error=str(failed.error),
        )
    return what


async def _send_failed(answer: Answer, target: Target, rule: Rule, failed: Failed) -> str:
    error = failed.error
    cause = root(error)
    if isinstance(cause, BudgetExhausted):
        await send_slow_down(answer, target, retry_after_s=cause.retry_after_s or 1.0)
        return "budget"
    if isinstance(cause, StoreError):
        await send_unavailable(answer, target)
        return "store_failed"
    kept = failed.answer
    if kept is not None and rule.origin.async_status == kept.status:
        headers = [
            (name.lower().encode("latin-1"), raw(value))
            for name, value in kept.headers
            if name.lower() in {"location", "retry-after"}
        ]
        await answer.whole(kept.status, sendable(headers))
        return "async_status"
    if kept is not None and is_transparent(rule, kept.status):
        await _send_kept(answer, kept, rule)
        return "transparent"
    await answer.error(
        s3_error.MIRROR_FAILED,
        resource=target.resource,
        message=f"{s3_error.MIRROR_FAILED.message[:-1]}: {describe(cause)}.",
        headers=_patience(cause),
    )
    return "mirror_failed"


async def send_slow_down(answer: Answer, target: Target, *, retry_after_s: float) -> None:
    """503 SlowDown with whole seconds of patience (A25, A29)."""
    seconds = max(1, math.ceil(retry_after_s))
    await answer.error(
        s3_error.SLOW_DOWN, resource=target.resource, headers=[(b"retry-after", b"%d" % seconds)]
    )


async def send_unavailable(answer: Answer, target: Target) -> None:
    """503 when the store does not answer."""
    await answer.error(
        s3_error.SERVICE_UNAVAILABLE, resource=target.resource, headers=[(b"retry-after", b"2")]
    )


def _patience(cause: TransferError) -> RawHeaders:
    """`Retry-After`, where an origin asked to be left alone."""
    wait_s = cause.retry_after_s
    if wait_s is None and isinstance(cause, OriginError) and cause.status in {429, 503}:
        wait_s = RETRY_AFTER_S
    return [] if wait_s is None else [(b"retry-after", b"%d" % max(1, math.ceil(wait_s)))]


def root(error: TransferError) -> TransferError:
    """Of several candidates the last one's failure."""
    return root(error.last) if isinstance(error, OriginsExhausted) else error


def describe(error: TransferError) -> str:
    """The reason as a client may see it: a constant, and the origin's status where there was one."""
    status = error.status if isinstance(error, OriginError) else None
    return error.reason if status is None else f"{error.reason} {status}"


async def _send_kept(answer: Answer, kept: OriginAnswer, rule: Rule) -> None:
    headers: RawHeaders = sendable(
        [
            (name.lower().encode("latin-1"), raw(value))
            for name, value in kept.headers
            if name.lower() in _SHOWN
        ]
    )
    headers = with_set(headers, rule.answer.return_headers)
    if not kept.cut:
        await answer.whole(kept.status, headers, kept.body)
        return

    async def chunks() -> AsyncIterator[bytes]:
        yield kept.body
        raise CutShort

    await answer.stream(kept.status, headers, chunks(), length=None)


class CutShort(Exception):
    """The origin's error body was longer than is passed on: the connection is cut (A10)."""
