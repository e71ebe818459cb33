"""A Proxy miss: answer now, pull in the background (SEMANTICS.md 5.2, A27 to A32).

Owns the answer and the order of things: the queue gets a moment to say that the key is absent or that it is
full; when it says nothing the client goes its way all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.front.http import s3_error
from scheduler.front.miss.answer import send_not_found, send_slow_down
from scheduler.front.pull.fill import NotFound
from scheduler.front.pull.jobs import Queued
from scheduler.rules.planning import origin_url

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan, Origin

#: Seconds after which a client may find the object in the store (A29).
RETRY_S = 2.0


async def serve_proxy(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
) -> None:
    """Answer a GET of a missing key under a Proxy rule; `plan` is the one of a queued pull (H9)."""
    bucket, name = target.bucket, rule.name
    known = parts.absent.find(bucket, target.key, rule=name, epoch=plan.epoch)
    if known is not None:
        parts.stats.answered("absent", bucket, name)
        await send_not_found(answer, target, rule, NotFound(answer=known.answer))
        return
    wait_s = parts.admission.ask(request.client.address)
    if wait_s is not None:
        parts.stats.answered("refused", bucket, name)
        await send_slow_down(answer, target, retry_after_s=wait_s)
        return
    match await parts.jobs.ask(plan, item):
        case Queued.ABSENT | Queued.TOMBSTONE:
            parts.stats.answered("absent", bucket, name)
            await send_not_found(answer, target, rule, NotFound())
            return
        case Queued.FULL:
            parts.stats.answered("refused", bucket, name)
            await send_slow_down(answer, target, retry_after_s=RETRY_S)
            return
        case Queued.ACCEPTED | Queued.DUPLICATE | Queued.UNKNOWN:
            pass
    reply = rule.answer.proxy_reply
    origin = picked(parts, plan)
    if reply == "not_found":
        parts.stats.answered("proxied", bucket, name)
        await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
    elif reply == "retry" or origin.credential is not None:  # A31: a redirect would lead to 403
        parts.stats.answered("proxied", bucket, name)
        await send_slow_down(answer, target, retry_after_s=RETRY_S)
    else:
        parts.stats.origin_served(request, target, name)
        await answer.whole(
            rule.answer.redirect_code,
            [
                (b"location", origin_url(origin, item).encode("ascii")),
                (b"cache-control", b"no-store"),
            ],
        )


def picked(parts: Parts, plan: FetchPlan) -> Origin:
    """Where a client is sent: the primary, or its first well standby while the primary is out (B9)."""
    index = parts.control.pick(plan)
    group = plan.groups[index]
    usable = parts.control.health.usable
    return next((origin for origin in (group.primary, *group.standbys) if usable(origin.host)), group.primary)
