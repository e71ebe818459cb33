"""Something else to do at its time while a slow source is waited for.

Owns the wait alone. Knows no source and no scan.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from workers.background import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

T = TypeVar("T")


async def ticking(
    blocks: AsyncIterator[T], tick: Callable[[], Awaitable[None]], *, every_s: float
) -> AsyncGenerator[T, None]:
    """What `blocks` yields, with a `tick` every so many seconds, also while nothing comes.

    A tick that raises ends the source; one that lasts holds back its next block.
    """
    clock = asyncio.get_running_loop().time
    due = clock() + every_s
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = asyncio.create_task(_next(blocks))
            while True:
                done, _ = await asyncio.wait({step}, timeout=max(due - clock(), 0))
                if clock() >= due:
                    await tick()
                    due = clock() + every_s
                if done:
                    break
            try:
                block = step.result()
            except StopAsyncIteration:
                return
            yield block
    finally:
        try:
            if step is not None:
                await end(step)
        finally:
            if hasattr(blocks, "aclose"):
                await blocks.aclose()


async def _next(blocks: AsyncIterator[T]) -> T:
    return await anext(blocks)
