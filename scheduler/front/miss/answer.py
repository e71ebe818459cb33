"""What a client gets when a pull gave no body: 404, 424, the origin's own error, a 3xx, or "later".

Owns the rows A5, A6, A8 to A11, A14 and A25 of SEMANTICS.md. No message names an address: the reason of a
failure is one of the constants of `workers.errors`, and the log has the rest under the same request id.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.object_headers import from_origin, raw, sendable, with_set
from scheduler.front.pull.fill import Failed, InStore, NotFound, PassedOn
from workers.errors import BudgetExhausted, OriginError, OriginsExhausted, StoreError
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.front.http.answer import Answer
    from scheduler.front.http.object_headers import RawHeaders
    from scheduler.front.http.target import Target
    from scheduler.front.miss.miss import Miss
    from scheduler.rules.model import Rule
    from workers.errors import TransferError
    from workers.origin.fetch.fetcher import Fetched, OriginAnswer

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


async def send_opening(miss: Miss, opening: NotFound | PassedOn | Failed | InStore) -> None:
    """Answer for an opening without a body, and count it."""
    match opening:
        case NotFound():
            await send_not_found(miss, opening.answer)
        case PassedOn():
            headers = [] if opening.location is None else [(b"location", raw(opening.location))]
            await miss.answer.whole(opening.status, sendable(headers))
            miss.answered("passed_redirect")
        case Failed():
            await _send_failed(miss, opening)
        case InStore():  # stored, and gone again before we read it
            await send_not_found(miss)
        case _:
            assert_never(opening)


def passed_on(miss: Miss, fetched: Fetched) -> RawHeaders:
    """Of an origin's answer that is no pull, the headers that go to the client."""
    meta = object_meta(
        fetched.headers, miss.plan, key=miss.target.key, url=fetched.url, attempt="", fetched_at=""
    )
    return from_origin(
        fetched.headers,
        meta,
        user_meta=miss.plan.store.user_meta,
        set_headers=miss.rule.answer.return_headers,
    )


async def send_not_found(miss: Miss, kept: OriginAnswer | None = None) -> None:
    """A5, or A6 with the origin's own page `kept`."""
    if kept is not None and is_transparent(miss.rule, kept.status):
        await _send_kept(miss.answer, kept, miss.rule)
    else:
        await miss.answer.error(s3_error.NO_SUCH_KEY, resource=miss.target.resource)
    miss.answered("absent")


async def was_absent(miss: Miss) -> bool:
    """Whether the key is known to be at no origin; then that was the answer (A5, A30)."""
    target = miss.target
    known = miss.parts.absent.find(target.bucket, target.key, rule=miss.rule.name, epoch=miss.plan.epoch)
    if known is None:
        return False
    await send_not_found(miss, known.answer)
    return True


async def was_refused(miss: Miss) -> bool:
    """Whether this client asks for more misses than one may; then that was the answer."""
    wait_s = miss.parts.admission.ask(miss.request.client.address)
    if wait_s is None:
        return False
    await refuse(miss, retry_after_s=wait_s)
    return True


async def refuse(miss: Miss, *, retry_after_s: float) -> None:
    """Nothing is asked for this client now."""
    await send_slow_down(miss.answer, miss.target, retry_after_s=retry_after_s)
    miss.answered("refused")


async def _send_failed(miss: Miss, failed: Failed) -> None:
    """A9 to A11, A14, A25, and a store that does not answer; and one line that tells the operator why."""
    miss.answered(await _send_cause(miss, failed))
    cause = root(failed.error)
    if not isinstance(cause, BudgetExhausted):
        log.info(
            "miss_failed",
            key=miss.target.key,
            answered=miss.answer.status,
            origin=cause.origin if isinstance(cause, OriginError) else "",
            origin_status=cause.status if isinstance(cause, OriginError | StoreError) else None,
            reason=cause.reason,
            error=str(failed.error),
        )


async def _send_cause(miss: Miss, failed: Failed) -> str:
    """Answer a failure; what it was, for the counters."""
    answer, target, rule = miss.answer, miss.target, miss.rule
    cause = root(failed.error)
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
