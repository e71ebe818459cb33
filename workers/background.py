"""Ending background tasks.

Owns two workarounds. A client library may turn a cancellation into an error of its own (redis-py does when
it hits a connection that is being made), and a loop that survives errors survives that one too: so a task is
cancelled again and again. That hits tasks which are clearing up as well: what must be cleared up is worked
off `to_the_end`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

#: Seconds after which a task that is still there is cancelled again.
_AGAIN_S = 0.2


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with.

    Whoever waits may be cancelled meanwhile: he is, once they have ended.
    """
    left = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
        left = {task for task in left if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # it has been looked at
    if cancelled is not None:
        raise cancelled


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. Whoever waits may be cancelled: the work goes on, and he is once it has ended."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
