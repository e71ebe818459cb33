"""One timer for many waits: who waits too long is cancelled, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from workers.deadlines import Deadlines, Wait


async def _wait(deadlines: Deadlines, seconds: float, told: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    wait = Wait(loop.time() + seconds, loop)
    deadlines.add(wait, loop)
    try:
        await told.wait()
    except asyncio.CancelledError:
        if not wait.timed_out():
            raise
        return "late"
    finally:
        deadlines.remove(wait)
    return "told"


async def test_who_waits_too_long_is_told_so_and_the_others_wait_on() -> None:
    deadlines, told = Deadlines(), asyncio.Event()
    patient = asyncio.create_task(_wait(deadlines, 3600, told))
    assert await _wait(deadlines, 0, told) == "late"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # it was taken back
    assert not patient.done()
    told.set()
    assert await patient == "told"
    deadlines.close()


async def test_a_task_that_somebody_else_cancels_is_no_late_one() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(_wait(deadlines, 3600, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_a_wait_that_is_over_is_never_cancelled() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    over = Wait(loop.time(), loop)
    deadlines.add(over, loop)
    deadlines.remove(over)
    deadlines.remove(over)
    # A later wait of the same task ends in the tick that would have cancelled the first.
    assert await _wait(deadlines, 0, asyncio.Event()) == "late"
    assert not over.expired
    deadlines.close()
