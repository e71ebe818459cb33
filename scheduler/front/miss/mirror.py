"""A Mirror miss: the client gets the object from the pull that brings it to the store (SEMANTICS.md 5.1).

Owns the request's side of it: which fill to follow or start, and what of it this client gets. The fill
itself is the application's (`pump`); nothing that happens to this client reaches it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scheduler.front.hit import serve_hit
from scheduler.front.http.range_header import parse_range, single
from scheduler.front.miss.answer import was_absent, was_refused
from scheduler.front.miss.follow import follow, new_fill
from scheduler.front.miss.range import serve_range_miss

if TYPE_CHECKING:
    from scheduler.front.http.range_header import RangeSpec
    from scheduler.front.http.request import Request
    from scheduler.front.miss.miss import Miss


def wanted_range(request: Request) -> RangeSpec | None:
    """The single range that is honoured on a miss; None stands for the whole object (A19)."""
    by_name = request.by_name
    if "range" not in by_name or "if-range" in by_name:
        return None
    return single(parse_range(by_name["range"]))


async def serve_mirror(miss: Miss, *, looked_at: float) -> None:
    """Answer a GET of a missing key; `looked_at` is the loop time before which the store was asked."""
    herd, bucket, key = miss.parts.herd, miss.target.bucket, miss.target.key
    fill = herd.running(bucket, key)
    if fill is None:
        if herd.stored_since(bucket, key, looked_at):
            if await serve_hit(miss.parts, miss.request, miss.answer, miss.target) is None:
                return
            looked_at = asyncio.get_running_loop().time()
        if await was_absent(miss) or await was_refused(miss):
            return
        # A fill that began while the store was being asked.
        fill = herd.running(bucket, key)
    spec = wanted_range(miss.request)
    ask_range = spec is not None and not _knows_no_ranges(miss)
    if fill is None and not ask_range:
        fill = herd.start(new_fill(miss.rule, miss.plan, miss.item, looked_at=looked_at))
    if fill is not None:
        if await follow(miss, fill, spec, may_leave=ask_range):
            return
        looked_at = fill.looked_at
    if spec is not None:
        await serve_range_miss(miss, spec, looked_at=looked_at)


def _knows_no_ranges(miss: Miss) -> bool:
    until = miss.parts.no_ranges.get((miss.target.bucket, miss.rule.name))
    return until is not None and asyncio.get_running_loop().time() < until
