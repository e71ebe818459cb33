"""HEAD of a missing key under a Mirror rule that allows it: asked from the origin, nothing pulled (A36,
A37).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from scheduler.front.http import s3_error
from scheduler.front.http.conditional import precondition_holds
from scheduler.front.http.object_headers import origin_validators
from scheduler.front.miss.answer import passed_on, send_not_found, send_opening, was_refused
from scheduler.front.pull.fill import Failed, NotFound, PassedOn, is_for_one
from workers.errors import OriginsExhausted, TombstonesUnknown, TransferError
from workers.origin.fetch.fetcher import Absent, Fetched, PassedRedirect
from workers.plan import Lane

if TYPE_CHECKING:
    from scheduler.front.http.conditional import Validators
    from scheduler.front.http.object_headers import RawHeaders
    from scheduler.front.miss.miss import Miss


async def serve_head_miss(miss: Miss) -> None:
    """Answer a HEAD with the origin's headers, `x-ferryman-stored: false` and no body."""
    parts, target, rule, plan = miss.parts, miss.target, miss.rule, miss.plan
    fill = parts.herd.running(target.bucket, target.key)
    opened = fill.opened if fill is not None else None
    mine = fill is None or opened is None or not opened.withheld or fill.plan.headers == plan.headers
    if opened is not None and mine:
        await _send(miss, list(opened.headers), opened.length, opened.validators)
        return
    known = parts.absent.find(target.bucket, target.key, rule=rule.name, epoch=plan.epoch, head=True)
    try:
        if known is not None or await parts.claims.withheld(plan, target.key):
            await send_not_found(miss)
            return
    except TombstonesUnknown as error:
        await send_opening(miss, Failed(error=error))
        return
    if await was_refused(miss):
        return
    async with parts.fetcher.session(plan, miss.item, lane=Lane.HOT, method="HEAD") as session:
        try:
            found = await session.open()
        except TransferError as error:
            kept = error.answer if isinstance(error, OriginsExhausted) else None
            await send_opening(miss, Failed(error=error, answer=kept))
            return
        match found:
            case Absent():
                # For other HEADs here only: a GET may find what HEAD denies; no event is dropped for it.
                if not is_for_one(NotFound(answer=found.answer), plan):
                    parts.absent.remember(
                        target.bucket,
                        target.key,
                        rule=rule.name,
                        epoch=plan.epoch,
                        ttl_s=plan.absent_ttl_s,
                        by_head=True,
                    )
                await send_not_found(miss)
            case PassedRedirect():
                await send_opening(miss, PassedOn(status=found.status, location=found.location))
            case Fetched():
                headers = passed_on(miss, found)
                await _send(miss, headers, found.length, origin_validators(found.headers))
            case _:
                assert_never(found)


async def _send(miss: Miss, headers: RawHeaders, length: int | None, validators: Validators) -> None:
    miss.answered("head")
    if not precondition_holds(miss.request.by_name, validators):
        await miss.answer.error(s3_error.PRECONDITION_FAILED, resource=miss.target.resource)
        return
    await miss.answer.head(200, [*headers, (b"x-ferryman-stored", b"false")], length=length)
