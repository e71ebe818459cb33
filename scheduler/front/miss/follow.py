"""Following a running fill: what of it one client gets.

Owns the request's side of a fill (A1, A2, A16, A17, A20, A21, A24). Knows nothing of how the fill came about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.front.hit import serve_hit
from scheduler.front.http import s3_error
from scheduler.front.http.conditional import has_conditions, precondition_holds
from scheduler.front.http.object_headers import raw
from scheduler.front.http.range_header import resolve
from scheduler.front.miss.answer import keeps_error_body, send_opening, send_unavailable, was_refused
from scheduler.front.pull.fill import Fill, InStore, Opened, is_for_one
from scheduler.front.pull.spool import BodyUnavailable

if TYPE_CHECKING:
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.miss.miss import Miss
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


async def follow(miss: Miss, fill: Fill, spec: RangeSpec | None, *, may_leave: bool = False) -> bool:
    """Give this client what a running fill brings, or what the origin has for it alone (F61).

    False: nothing was sent, because the range begins far beyond what has arrived (only with `may_leave`).
    """
    parts, target = miss.parts, miss.target
    seat = fill.join()
    try:
        opening = await fill.heard()
        if fill.plan.headers != miss.plan.headers and is_for_one(opening, fill.plan):
            seat.leave()
            if await was_refused(miss):
                return True
            own = new_fill(miss.rule, miss.plan, miss.item, looked_at=fill.looked_at)
            parts.herd.start(own, parts.pump.run_alone, shared=False)
            return await follow(miss, own, spec)
        if isinstance(opening, InStore):
            status = await serve_hit(parts, miss.request, miss.answer, target)
            if status is None:
                return True
            if status >= 500:
                miss.answered("store_failed")
                await send_unavailable(miss.answer, target)
                return True
        if not isinstance(opening, Opened):
            await send_opening(miss, opening)
            return True
        by_name = miss.request.by_name
        if has_conditions(by_name) and not precondition_holds(by_name, opening.validators):
            miss.answered("origin")
            await miss.answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
            return True
        return await _send_body(miss, fill, opening, spec, seat, may_leave=may_leave)
    finally:
        seat.leave()


async def _send_body(
    miss: Miss, fill: Fill, opened: Opened, spec: RangeSpec | None, seat: Seat, *, may_leave: bool
) -> bool:
    """The body of a fill, or the part of it that was asked for (A1, A2, A16, A17)."""
    status, headers, length = 200, list(opened.headers), opened.length
    start, stop = 0, None
    if spec is not None and opened.length is not None:
        part = resolve(spec, opened.length)
        if part is None:
            miss.answered("origin")
            await miss.answer.error(
                s3_error.INVALID_RANGE,
                resource=miss.target.resource,
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
        herd = miss.parts.herd
        herd.forget(fill)
        again = herd.start(new_fill(miss.rule, miss.plan, replace(miss.item), looked_at=0.0))
        return await follow(miss, again, spec, may_leave=may_leave)
    seat.take()
    miss.origin_served()
    try:
        await miss.answer.pour(status, headers, reader, length=length)
    finally:
        reader.close()
    return True
