"""Ending background tasks.

Owns one workaround: a client library may turn a cancellation into an error of its own (redis-py does when it
hits a connection that is being made), and a loop that survives errors survives that one too.
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Seconds after which a task that is still there is cancelled again.
_AGAIN_S = 0.2


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
