"""A single range of a missing key: at once from the origin, and the whole object once in the background.

Owns the rows A15 to A18 of SEMANTICS.md. The first request for a key finds out what its origin does with
ranges; the others wait for that, so that an origin which answers every range with the whole object is asked
once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

import structlog

from scheduler.front.http import s3_error
from scheduler.front.http.answer import Interrupted
from scheduler.front.http.conditional import precondition_holds
from scheduler.front.http.object_headers import from_origin, origin_validators, raw
from scheduler.front.http.range_header import header_value, is_answer, parse_content_range
from scheduler.front.miss.answer import keeps_error_body, root, send_not_found, send_opening
from scheduler.front.miss.follow import follow, new_fill
from scheduler.front.pull.fill import Failed, NotFound, PassedOn, for_queue, is_for_one
from scheduler.front.pull.pump import worth_queueing
from workers.answers import Absent, PassedRedirect
from workers.errors import OriginError, OriginPartial, OriginsExhausted, TransferError
from workers.origin.fetch.sharing import withheld
from workers.plan import Lane
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from scheduler.front.http.answer import Answer
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.origin.fetch.fetcher import Fetched, FetchSession
    from workers.plan import FetchItem, FetchPlan

log = structlog.get_logger()

#: Seconds for which a rule's origins are taken to know no ranges after one gave the whole object.
NO_RANGES_S = 60.0
#: Seconds that a request waits for another one to find out about ranges.
WAIT_S = 10.0


async def serve_range_miss(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
    spec: RangeSpec,
    *,
    looked_at: float,
) -> None:
    """Answer a GET with a single range that no running fill can serve soon."""
    name = (target.bucket, target.key)
    first = parts.ranges_opening.get(name)
    if first is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await first.wait()
        fill = parts.herd.running(*name)
        until = parts.no_ranges.get((target.bucket, rule.name), 0.0)
        if fill is not None and until > asyncio.get_running_loop().time():
            await follow(parts, request, answer, target, rule, fill, spec, plan=plan, item=item)
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
        await _ask(parts, request, answer, target, rule, plan, item, spec, found_out, looked_at)
    finally:
        found_out()


async def _ask(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
    spec: RangeSpec,
    found_out: Callable[[], None],
    looked_at: float,
) -> None:
    if await parts.claims.withheld(plan, target.key):
        parts.stats.answered("absent", target.bucket, rule.name)
        await send_not_found(answer, target, rule, NotFound())
        return
    async with contextlib.AsyncExitStack() as stack:
        session = parts.fetcher.session(
            plan, item, lane=Lane.HOT, range_header=header_value(spec), keep_error_body=True
        )
        await stack.enter_async_context(session)

        async def whole_instead(got: str | None) -> None:
            # What this origin says of ranges is worth nothing, so the whole object is, as if it knew none.
            log.info("wrong_range", bucket=target.bucket, key=target.key, got=got)
            await stack.aclose()
            loop = asyncio.get_running_loop()
            parts.no_ranges[target.bucket, rule.name] = loop.time() + NO_RANGES_S
            fill = parts.herd.running(target.bucket, target.key)
            if fill is None:
                fill = parts.herd.start(new_fill(rule, plan, item, looked_at=looked_at))
            found_out()
            await follow(parts, request, answer, target, rule, fill, spec, plan=plan, item=item)

        try:
            opened = await session.open()
        except TransferError as error:
            cause = root(error)
            if isinstance(cause, OriginPartial) and cause.status == 200:
                await whole_instead("a part under status 200")
                return
            await _failed(parts, answer, target, rule, plan, item, error)
            return
        if isinstance(opened, Absent):
            kept = opened.answer if keeps_error_body(rule) else None
            not_found = NotFound(answer=kept)
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
            parts.stats.answered(
                await send_opening(answer, target, rule, not_found), target.bucket, rule.name
            )
            return
        if isinstance(opened, PassedRedirect):
            passed = PassedOn(status=opened.status, location=opened.location)
            parts.stats.answered(await send_opening(answer, target, rule, passed), target.bucket, rule.name)
            return
        if opened.status == 200:
            # A16, A17: this very answer is the pull.
            loop = asyncio.get_running_loop()
            parts.no_ranges[target.bucket, rule.name] = loop.time() + NO_RANGES_S
            fill = parts.herd.running(target.bucket, target.key)
            if fill is None:
                stack.pop_all()
                owned: FetchSession = session
                fill = new_fill(rule, plan, item, looked_at=looked_at)
                parts.herd.start(fill, lambda fill: parts.pump.run_opened(fill, owned, opened))
            found_out()
            await follow(parts, request, answer, target, rule, fill, spec, plan=plan, item=item)
            return
        if not is_answer(spec, opened.content_range):
            await whole_instead(opened.content_range)  # another part than was asked for
            return
        found_out()
        if plan.store.private or withheld(opened.headers, plan) is None:
            pull_in_background(parts, rule, plan, item, looked_at)
        await _send_part(parts, request, answer, target, rule, plan, opened)


async def _send_part(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    opened: Fetched,
) -> None:
    """A15: the origin's 206, as it stands."""
    parts.stats.origin_served(request, target, rule.name)
    if not precondition_holds(request.by_name, origin_validators(opened.headers)):
        await answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
        return
    meta = object_meta(opened.headers, plan, key=target.key, url=opened.url, attempt="", fetched_at="")
    headers = from_origin(
        opened.headers, meta, user_meta=plan.store.user_meta, set_headers=rule.answer.return_headers
    )
    length = opened.length
    if opened.content_range is not None:
        headers.append((b"content-range", raw(opened.content_range)))
        part = parse_content_range(opened.content_range)
        if length is None and part is not None and part[0] is not None:
            length = part[0].length
    try:
        async with contextlib.aclosing(cast("AsyncGenerator[bytes, None]", opened.chunks())) as chunks:
            await answer.stream(206, headers, chunks, length=length)
    except OriginError as error:
        raise Interrupted(error.reason) from error


async def _failed(
    parts: Parts,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
    error: TransferError,
) -> None:
    kept = error.answer if isinstance(error, OriginsExhausted) else None
    wrong_range = kept is not None and kept.status == 416
    asynchronous = kept is not None and kept.status == plan.async_status
    if plan.store.save and (wrong_range or asynchronous or worth_queueing(error)):
        parts.jobs.offer(for_queue(plan), item)
    if kept is not None and wrong_range:
        # A18: the range is wrong, the object is there.
        parts.stats.answered("origin", target.bucket, rule.name)
        content_range = kept.header("content-range") or ""
        parsed = parse_content_range(content_range)
        headers = [] if parsed is None or parsed[0] is not None else [(b"content-range", raw(content_range))]
        await answer.error(s3_error.INVALID_RANGE, resource=target.resource, headers=headers)
        return
    if isinstance(root(error), OriginError) and not keeps_error_body(rule):
        kept = None
    parts.stats.answered(
        await send_opening(answer, target, rule, Failed(error=error, answer=kept)), target.bucket, rule.name
    )


def pull_in_background(parts: Parts, rule: Rule, plan: FetchPlan, item: FetchItem, looked_at: float) -> None:
    """The whole object once: by a worker, or by ourselves when the queue does not take it (A15, A26)."""
    if not plan.store.save or parts.herd.running(plan.bucket, item.key) is not None:
        return

    def ourselves() -> None:
        if parts.herd.running(plan.bucket, item.key) is None:
            parts.herd.start(new_fill(rule, plan, item, looked_at=looked_at))

    parts.jobs.offer(for_queue(plan), item, refused=ourselves)
