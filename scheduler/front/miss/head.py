"""HEAD of a missing key under a Mirror rule that allows it: asked from the origin, nothing pulled (A36,
A37).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from scheduler.front.http import s3_error
from scheduler.front.http.conditional import precondition_holds
from scheduler.front.http.object_headers import from_origin, origin_validators
from scheduler.front.miss.answer import send_not_found, send_opening, send_slow_down
from scheduler.front.pull.fill import Failed, NotFound, PassedOn, is_for_one
from workers.errors import OriginsExhausted, TransferError
from workers.origin.fetch.fetcher import Absent, Fetched, PassedRedirect
from workers.plan import Lane
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan


async def serve_head_miss(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
) -> None:
    """Answer a HEAD with the origin's headers, `x-ferryman-stored: false` and no body."""
    bucket, name = target.bucket, rule.name
    fill = parts.herd.running(bucket, target.key)
    opened = fill.opened if fill is not None else None
    mine = fill is None or opened is None or not opened.withheld or fill.plan.headers == plan.headers
    if opened is not None and mine:
        parts.stats.answered("head", bucket, name)
        if not precondition_holds(request.by_name, opened.validators):
            await answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
            return
        await _send(answer, list(opened.headers), opened.length)
        return
    known = parts.absent.find(bucket, target.key, rule=name, epoch=plan.epoch, head=True)
    if known is not None or await parts.claims.withheld(plan, target.key):
        parts.stats.answered("absent", bucket, name)
        await send_not_found(answer, target, rule, NotFound())
        return
    wait_s = parts.admission.ask(request.client.address)
    if wait_s is not None:
        parts.stats.answered("refused", bucket, name)
        await send_slow_down(answer, target, retry_after_s=wait_s)
        return
    async with parts.fetcher.session(plan, item, lane=Lane.HOT, method="HEAD") as session:
        try:
            found = await session.open()
        except TransferError as error:
            kept = error.answer if isinstance(error, OriginsExhausted) else None
            what = await send_opening(answer, target, rule, Failed(error=error, answer=kept))
            parts.stats.answered(what, bucket, name)
            return
        match found:
            case Absent():
                # For other HEADs here only: a GET may find what HEAD denies; no event is dropped for it.
                if not is_for_one(NotFound(answer=found.answer), plan):
                    parts.absent.remember(
                        bucket,
                        target.key,
                        rule=name,
                        epoch=plan.epoch,
                        ttl_s=plan.absent_ttl_s,
                        by_head=True,
                    )
                parts.stats.answered("absent", bucket, name)
                await send_not_found(answer, target, rule, NotFound())
            case PassedRedirect():
                passed = PassedOn(status=found.status, location=found.location)
                parts.stats.answered(await send_opening(answer, target, rule, passed), bucket, name)
            case Fetched():
                parts.stats.answered("head", bucket, name)
                if not precondition_holds(request.by_name, origin_validators(found.headers)):
                    await answer.error(s3_error.PRECONDITION_FAILED, resource=target.resource)
                    return
                meta = object_meta(
                    found.headers, plan, key=target.key, url=found.url, attempt="", fetched_at=""
                )
                headers = from_origin(
                    found.headers,
                    meta,
                    user_meta=plan.store.user_meta,
                    set_headers=rule.answer.return_headers,
                )
                await _send(answer, headers, found.length)
            case _:
                assert_never(found)


async def _send(answer: Answer, headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    await answer.head(200, [*headers, (b"x-ferryman-stored", b"false")], length=length)
