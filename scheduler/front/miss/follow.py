"""Following a running fill: what of it one client gets.

Owns the request's side of a fill (A1, A2, A16, A17, A20, A21, A24). Knows nothing of how the fill came about.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.front.hit import serve_hit
from scheduler.front.http import s3_error
from scheduler.front.http.conditional import precondition_holds
from scheduler.front.http.object_headers import raw
from scheduler.front.http.range_header import resolve
from scheduler.front.miss.answer import keeps_error_body, send_opening, send_slow_down, send_unavailable
from scheduler.front.pull.fill import Fill, InStore, Opened, is_for_one
from scheduler.front.pull.spool import BodyUnavailable

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.front.pull.fill import Seat
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan

#: A range that begins at most so many bytes beyond what has arrived waits for the running fill.
NEAR_BYTES = 4 * 1024 * 1024


def new_fill(rule: Rule, plan: FetchPlan, item: FetchItem, *, looked_at: float) -> Fill:
    """A fill as the rule wants it."""
    return Fill(
        plan=plan,
        item=item,
        looked_at=looked_at,
        keep_error_body=keeps_error_body(rule),
        return_headers=rule.answer.return_headers,
    )


async def follow(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    fill: Fill,
    spec: RangeSpec | None,
    *,
    plan: FetchPlan,
    item: FetchItem,
    may_leave: bool = False,
) -> bool:
    """Give this client what a running fill brings, or what the origin has for it alone (F61).

    `plan` and `item` are those of this very request. False: nothing was sent, because the range begins far
    beyond what has arrived (only with `may_leave`).
    """
    seat = fill.join()
    try:
        opening = await asyncio.shield(fill.opening)
        if fill.plan.headers != plan.headers and is_for_one(opening, fill.plan):
            seat.leave()
            wait_s = parts.admission.ask(request.client.address)
            if wait_s is not None:
                parts.stats.answered("refused", target.bucket, rule.name)
                await send_slow_down(answer, target, retry_after_s=wait_s)
                return True
            own = new_fill(rule, plan, item, looked_at=fill.looked_at)
            parts.herd.start(own, parts.pump.run_alone, shared=False)
            return await follow(parts, request, answer, target, rule, own, spec, plan=plan, item=item)
        if isinstance(opening, InStore):
            status = await serve_hit(parts, request, answer, target)
            if status is None:
                return True
            if status >= 500:
                parts.stats.answered("store_failed", target.bucket, rule.name)
                await send_unavailable(answer, target)
                return True
        if not isinstance(opening, Opened):
            parts.stats.answered(await send_opening(answer, target, rule, opening), target.bucket, rule.name)
            return True
        if not precondition_holds(request.by_name, opening.validators):
            parts.stats.answered("origin", target.bucket, rule.name)
            await answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
            return True
        return await _send_body(
            parts, request, answer, target, rule, fill, opening, spec, seat, plan, item, may_leave=may_leave
        )
    finally:
        seat.leave()


async def _send_body(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    fill: Fill,
    opened: Opened,
    spec: RangeSpec | None,
    seat: Seat,
    plan: FetchPlan,
    item: FetchItem,
    *,
    may_leave: bool,
) -> bool:
    """The body of a fill, or the part of it that was asked for (A1, A2, A16, A17)."""
    status, headers, length = 200, list(opened.headers), opened.length
    start, stop = 0, None
    if spec is not None and opened.length is not None:
        part = resolve(spec, opened.length)
        if part is None:
            parts.stats.answered("origin", target.bucket, rule.name)
            await answer.error(
                s3_error.INVALID_RANGE,
                resource=target.resource,
                headers=[(b"content-range", b"bytes */%d" % opened.length)],
            )
            return True
        if may_leave and part.start > opened.body.readable + NEAR_BYTES:
            return False
        status, length, start, stop = 206, part.length, part.start, part.stop
        headers.append((b"content-range", raw(part.content_range(opened.length))))
    try:
        reader = opened.body.reader(start, stop)
    except BodyUnavailable:
        # Its beginning is gone from memory and disk: the store will have it, or another pull of our own.
        seat.take()
        parts.herd.forget(fill)
        again = parts.herd.start(new_fill(rule, plan, replace(item), looked_at=0.0))
        return await follow(
            parts, request, answer, target, rule, again, spec, plan=plan, item=item, may_leave=may_leave
        )
    seat.take()
    parts.stats.origin_served(request, target, rule.name)
    try:
        await answer.stream(status, headers, reader.chunks(), length=length)
    finally:
        reader.close()
    return True
