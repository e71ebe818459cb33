"""A single range of a missing key: at once from the origin, and the whole object once in the background.

Owns the rows A15 to A18 of SEMANTICS.md. The first request for a key finds out what its origin does with
ranges; the others wait for that, so that an origin which answers every range with the whole object is asked
once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.answer import Interrupted
from scheduler.front.http.conditional import precondition_holds
from scheduler.front.http.object_headers import origin_validators, raw
from scheduler.front.http.range_header import header_value, is_answer, parse_content_range
from scheduler.front.miss.answer import keeps_error_body, passed_on, root, send_not_found, send_opening
from scheduler.front.miss.follow import follow, new_fill
from scheduler.front.pull.claim import Claimed
from scheduler.front.pull.fill import Failed, NotFound, PassedOn, for_queue, is_for_one
from scheduler.front.pull.pump import worth_queueing
from workers.answers import Absent, PassedRedirect
from workers.errors import OriginError, OriginPartial, OriginsExhausted, TombstonesUnknown, TransferError
from workers.origin.fetch.sharing import withheld
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.miss.miss import Miss
    from scheduler.front.pull.fill import Fill
    from workers.origin.fetch.fetcher import Fetched, FetchSession

log = structlog.get_logger()

#: Seconds for which a rule's origins are taken to know no ranges after one gave the whole object.
NO_RANGES_S = 60.0
#: Seconds that a request waits for another one to find out about ranges.
WAIT_S = 10.0


async def serve_range_miss(miss: Miss, spec: RangeSpec, *, looked_at: float) -> None:
    """Answer a GET with a single range that no running fill can serve soon."""
    parts, name = miss.parts, (miss.target.bucket, miss.target.key)
    first = parts.ranges_opening.get(name)
    if first is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await first.wait()
        fill = parts.herd.running(*name)
        until = parts.no_ranges.get((miss.target.bucket, miss.rule.name), 0.0)
        if fill is not None and until > asyncio.get_running_loop().time():
            await follow(miss, fill, spec)
            return
        first = parts.ranges_opening.get(name)
    opening = asyncio.Event()
    if first is None:
        parts.ranges_opening[name] = opening
    known = asyncio.Event() if first is not None else opening

    def found_out() -> None:
        known.set()
        if parts.ranges_opening.get(name) is known:
            del parts.ranges_opening[name]

    try:
        await _ask(miss, spec, found_out, looked_at)
    finally:
        found_out()


async def _ask(miss: Miss, spec: RangeSpec, found_out: Callable[[], None], looked_at: float) -> None:
    parts, target, rule, plan = miss.parts, miss.target, miss.rule, miss.plan
    try:
        standing = await parts.claims.standing(plan, target.key)
    except TombstonesUnknown as error:
        await _failed(miss, error)
        return
    if standing in {Claimed.TOMBSTONE, Claimed.ABSENT}:
        await send_not_found(miss)
        return

    def knows_no_ranges() -> None:
        loop = asyncio.get_running_loop()
        parts.no_ranges[target.bucket, rule.name] = loop.time() + NO_RANGES_S

    def filling() -> Fill:
        fill = parts.herd.running(target.bucket, target.key)
        return fill or parts.herd.start(new_fill(rule, plan, miss.item, looked_at=looked_at))

    async with contextlib.AsyncExitStack() as stack:
        session = parts.fetcher.session(
            plan, miss.item, lane=Lane.HOT, range_header=header_value(spec), keep_error_body=True
        )
        await stack.enter_async_context(session)

        async def whole_instead(got: str | None) -> None:
            # What this origin says of ranges is worth nothing, so the whole object is, as if it knew none.
            log.info("wrong_range", bucket=target.bucket, key=target.key, got=got)
            await stack.aclose()
            knows_no_ranges()
            found_out()
            await follow(miss, filling(), spec)

        if standing is Claimed.STORED:  # since the store was looked at: the pull looks again
            found_out()
            await follow(miss, filling(), spec)
            return
        try:
            opened = await session.open()
        except TransferError as error:
            cause = root(error)
            if isinstance(cause, OriginPartial) and cause.status == 200:
                await whole_instead("a part under status 200")
                return
            await _failed(miss, error)
            return
        if isinstance(opened, Absent):
            kept = opened.answer if keeps_error_body(rule) else None
            if not is_for_one(NotFound(answer=opened.answer), plan):
                parts.absent.remember(
                    target.bucket,
                    target.key,
                    rule=rule.name,
                    epoch=plan.epoch,
                    ttl_s=plan.absent_ttl_s,
                    answer=kept,
                )
                await parts.claims.mark_absent(plan, target.key)
            await send_not_found(miss, kept)
            return
        if isinstance(opened, PassedRedirect):
            await send_opening(miss, PassedOn(status=opened.status, location=opened.location))
            return
        if opened.status == 200:
            # A16, A17: this very answer is the pull.
            knows_no_ranges()
            fill = parts.herd.running(target.bucket, target.key)
            if fill is None:
                stack.pop_all()
                owned: FetchSession = session
                fill = new_fill(rule, plan, miss.item, looked_at=looked_at)
                parts.herd.start(fill, lambda fill: parts.pump.run_opened(fill, owned, opened))
            found_out()
            await follow(miss, fill, spec)
            return
        if not is_answer(spec, opened.content_range):
            await whole_instead(opened.content_range)  # another part than was asked for
            return
        found_out()
        if plan.store.private or withheld(opened.headers, plan) is None:
            pull_in_background(miss, looked_at)
        await _send_part(miss, opened)


async def _send_part(miss: Miss, opened: Fetched) -> None:
    """A15: the origin's 206, as it stands."""
    miss.origin_served()
    if not precondition_holds(miss.request.by_name, origin_validators(opened.headers)):
        await miss.answer.error(s3_error.PRECONDITION_FAILED, resource=miss.target.resource)
        return
    headers = passed_on(miss, opened)
    length = opened.length
    if opened.content_range is not None:
        headers.append((b"content-range", raw(opened.content_range)))
        part = parse_content_range(opened.content_range)
        if length is None and part is not None and part[0] is not None:
            length = part[0].length
    try:
        await miss.answer.pour(206, headers, opened, length=length)
    except OriginError as error:
        raise Interrupted(error.reason) from error


async def _failed(miss: Miss, error: TransferError) -> None:
    plan = miss.plan
    kept = error.answer if isinstance(error, OriginsExhausted) else None
    wrong_range = kept is not None and kept.status == 416
    asynchronous = kept is not None and kept.status == plan.async_status
    if plan.store.save and (wrong_range or asynchronous or worth_queueing(error)):
        miss.parts.jobs.offer(for_queue(plan), miss.item)
    if kept is not None and wrong_range:
        # A18: the range is wrong, the object is there.
        miss.answered("origin")
        content_range = kept.header("content-range") or ""
        parsed = parse_content_range(content_range)
        headers = [] if parsed is None or parsed[0] is not None else [(b"content-range", raw(content_range))]
        await miss.answer.error(s3_error.INVALID_RANGE, resource=miss.target.resource, headers=headers)
        return
    if isinstance(root(error), OriginError) and not keeps_error_body(miss.rule):
        kept = None
    await send_opening(miss, Failed(error=error, answer=kept))


def pull_in_background(miss: Miss, looked_at: float) -> None:
    """The whole object once: by a worker, or by ourselves when the queue does not take it (A15, A26)."""
    herd, rule, plan, item = miss.parts.herd, miss.rule, miss.plan, miss.item
    if not plan.store.save or herd.running(plan.bucket, item.key) is not None:
        return

    def ourselves() -> None:
        if herd.running(plan.bucket, item.key) is None:
            herd.start(new_fill(rule, plan, item, looked_at=looked_at))

    miss.parts.jobs.offer(for_queue(plan), item, refused=ourselves)
