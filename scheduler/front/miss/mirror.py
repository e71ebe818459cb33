"""A Mirror miss: the client gets the object from the pull that brings it to the store (SEMANTICS.md 5.1).

Owns the request's side of it: which fill to follow or start, and what of it this client gets. The fill
itself is the application's (`pump`); nothing that happens to this client reaches it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scheduler.front.hit import serve_hit
from scheduler.front.http.range_header import parse_range, single
from scheduler.front.miss.answer import send_not_found, send_slow_down
from scheduler.front.miss.follow import follow, new_fill
from scheduler.front.miss.range import serve_range_miss
from scheduler.front.pull.fill import NotFound

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan


def wanted_range(request: Request) -> RangeSpec | None:
    """The single range that is honoured on a miss; None stands for the whole object (A19)."""
    by_name = request.by_name
    if "range" not in by_name or "if-range" in by_name:
        return None
    return single(parse_range(by_name["range"]))


async def serve_mirror(
    parts: Parts,
    request: Request,
    answer: Answer,
    target: Target,
    rule: Rule,
    plan: FetchPlan,
    item: FetchItem,
    *,
    looked_at: float,
) -> None:
    """Answer a GET of a missing key; `looked_at` is the loop time before which the store was asked."""
    fill = parts.herd.running(target.bucket, target.key)
    if fill is None:
        if parts.herd.stored_since(target.bucket, target.key, looked_at):
            if await serve_hit(parts, request, answer, target) is None:
                return
            looked_at = asyncio.get_running_loop().time()
        known = parts.absent.find(target.bucket, target.key, rule=rule.name, epoch=plan.epoch)
        if known is not None:
            parts.stats.answered("absent", target.bucket, rule.name)
            await send_not_found(answer, target, rule, NotFound(answer=known.answer))
            return
        wait_s = parts.admission.ask(request.client.address)
        if wait_s is not None:
            parts.stats.answered("refused", target.bucket, rule.name)
            await send_slow_down(answer, target, retry_after_s=wait_s)
            return
        # A fill that began while the store was being asked.
        fill = parts.herd.running(target.bucket, target.key)
    spec = wanted_range(request)
    ask_range = spec is not None and not _knows_no_ranges(parts, target, rule)
    if fill is None and not ask_range:
        fill = parts.herd.start(new_fill(rule, plan, item, looked_at=looked_at))
    if fill is not None:
        if await follow(
            parts, request, answer, target, rule, fill, spec, plan=plan, item=item, may_leave=ask_range
        ):
            return
        looked_at = fill.looked_at
    if spec is not None:
        await serve_range_miss(parts, request, answer, target, rule, plan, item, spec, looked_at=looked_at)


def _knows_no_ranges(parts: Parts, target: Target, rule: Rule) -> bool:
    until = parts.no_ranges.get((target.bucket, rule.name))
    return until is not None and asyncio.get_running_loop().time() < until
