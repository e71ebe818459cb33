"""A rule has been found for a request: which answer it means.

Owns what is refused whatever the rule says, the plan, and the choice of the handler. Must not know how the
rule was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import structlog
from structlog.contextvars import bind_contextvars

from scheduler.front.http import s3_error
from scheduler.front.miss.head import serve_head_miss
from scheduler.front.miss.mirror import serve_mirror
from scheduler.front.miss.miss import Miss
from scheduler.front.miss.proxy import serve_proxy
from scheduler.front.miss.redirect import serve_redirect
from scheduler.rules.model import RuleType
from scheduler.rules.planning import PlanRefused, plan
from workers.origin.wire.headers import went_through

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.miss.ruled import Ruled
    from scheduler.front.parts import Parts

log = structlog.get_logger()


#: When the look into the store began, where there was none.
NOT_LOOKED: Final = 0.0


async def answer_by_rule(
    parts: Parts, request: Request, answer: Answer, ruled: Ruled, looked_at: float
) -> None:
    """Answer as the rule says; the look into the store began at `looked_at` (loop time)."""
    target, ruleset, rule, facts = ruled
    if "x-ferryman-hop" in request.by_name and went_through(request.headers, parts.installation):
        log.warning("loop_detected", bucket=target.bucket, rule=rule.name, **request.log_ids())
        await answer.error(s3_error.LOOP_DETECTED, resource=target.resource)
        return
    proxied = rule.type is RuleType.PROXY
    try:
        fetch, item = plan(
            rule,
            ruleset,
            target.bucket,
            facts,
            kind="event" if proxied else "request",
            request_id=request.trace_id,
        )
    except PlanRefused:
        parts.stats.answered("dot_segment", target.bucket, rule.name)
        await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
        return
    bind_contextvars(request_id=request.trace_id, bucket=target.bucket, rule=rule.name)
    if request.trace_id != request.id:
        bind_contextvars(answer_id=request.id)  # what the client reads in x-amz-request-id
    if rule.type is not RuleType.REDIRECT and parts.retired.is_dry(target.bucket, target.key):
        parts.stats.answered("dry_retired", target.bucket, rule.name)
        await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
        return
    miss = Miss(
        parts=parts,
        request=request,
        answer=answer,
        target=target,
        rule=rule,
        plan=fetch,
        item=item,
    )
    match rule.type:
        case RuleType.REDIRECT:
            await serve_redirect(miss)
        case RuleType.PROXY:
            await serve_proxy(miss)
        case RuleType.MIRROR if request.method == "HEAD":
            await serve_head_miss(miss)
        case RuleType.MIRROR:
            await serve_mirror(miss, looked_at=looked_at)
        case _:
            assert_never(rule.type)
