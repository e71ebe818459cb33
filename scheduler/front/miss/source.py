"""A key that is to be copied and that the store lacks: pulled whole, for nobody in particular.

Owns the wait for the pull's end. What the store then says of the copy is the client's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.front.miss.follow import new_fill
from scheduler.front.pull.fill import Opened
from scheduler.front.pull.spool import BodyFailed
from scheduler.rules.planning import PlanRefused, plan

if TYPE_CHECKING:
    from scheduler.front.http.request import Request
    from scheduler.front.miss.ruled import Ruled
    from scheduler.front.parts import Parts


async def pull_whole(parts: Parts, request: Request, ruled: Ruled, *, looked_at: float) -> None:
    """Wait until the key's pull has ended, well or not; `looked_at` is as for `serve_mirror`."""
    target, ruleset, rule, asked = ruled
    facts = replace(asked, method="GET", headers=())
    try:
        fetch, item = plan(rule, ruleset, target.bucket, facts, kind="event", request_id=request.trace_id)
    except PlanRefused:
        return
    if parts.absent.find(target.bucket, target.key, rule=rule.name, epoch=fetch.epoch) is not None:
        return
    fill = parts.herd.running(target.bucket, target.key)
    if fill is None:
        fill = parts.herd.start(new_fill(rule, fetch, item, looked_at=looked_at))
    seat = fill.join()
    try:
        opening = await fill.heard()
        if isinstance(opening, Opened):
            reader = opening.body.reader()
            seat.take()
            try:
                with contextlib.suppress(BodyFailed):  # the copy then says what the store has
                    while await reader.read_some():
                        pass
            finally:
                reader.close()
        if fill.task is not None:
            await asyncio.wait({fill.task})
    finally:
        seat.leave()
