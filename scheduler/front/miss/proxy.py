"""A Proxy miss: answer now, pull in the background (SEMANTICS.md 5.2, A27 to A32).

Owns the answer and the order of things: the queue gets a moment to say that the key is absent or that it is
full; when it says nothing the client goes its way all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.front.http import s3_error
from scheduler.front.miss.answer import refuse, send_not_found, send_slow_down, was_absent, was_refused
from scheduler.front.pull.jobs import Queued
from scheduler.rules.planning import origin_url

if TYPE_CHECKING:
    from scheduler.front.miss.miss import Miss
    from scheduler.front.parts import Parts
    from workers.plan import FetchPlan, Origin

#: Seconds after which a client may find the object in the store (A29).
RETRY_S = 2.0


async def serve_proxy(miss: Miss) -> None:
    """Answer a GET of a missing key under a Proxy rule; its plan is the one of a queued pull (H9)."""
    if await was_absent(miss) or await was_refused(miss):
        return
    match await miss.parts.jobs.ask(miss.plan, miss.item):
        case Queued.ABSENT | Queued.TOMBSTONE:
            await send_not_found(miss)
            return
        case Queued.FULL:
            await refuse(miss, retry_after_s=RETRY_S)
            return
        case Queued.UNKNOWN if miss.parts.claims.may_have_tombstones(miss.target.bucket):
            await refuse(miss, retry_after_s=RETRY_S)
            return
        case Queued.ACCEPTED | Queued.DUPLICATE | Queued.UNKNOWN:
            pass
    reply, answer, target = miss.rule.answer.proxy_reply, miss.answer, miss.target
    origin = picked(miss.parts, miss.plan)
    if reply == "not_found":
        miss.answered("proxied")
        await answer.error(s3_error.NO_SUCH_KEY, resource=target.resource)
    elif reply == "retry" or origin.credential is not None:  # A31: a redirect would lead to 403
        miss.answered("proxied")
        await send_slow_down(answer, target, retry_after_s=RETRY_S)
    else:
        miss.origin_served()
        await answer.whole(
            miss.rule.answer.redirect_code,
            [
                (b"location", origin_url(origin, miss.item).encode("ascii")),
                (b"cache-control", b"no-store"),
            ],
        )


def picked(parts: Parts, plan: FetchPlan) -> Origin:
    """Where a client is sent: the primary, or its first well standby while the primary is out (B9)."""
    index = parts.control.pick(plan)
    group = plan.groups[index]
    usable = parts.control.health.usable
    return next((origin for origin in (group.primary, *group.standbys) if usable(origin.host)), group.primary)
