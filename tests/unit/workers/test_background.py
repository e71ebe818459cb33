"""Tasks that are ended, and who is cancelled while he waits for that."""

from __future__ import annotations

import asyncio

import pytest

from workers.background import end, to_the_end


async def stubborn(cleared: asyncio.Event) -> None:
    """Ends at the third cancellation."""
    for _ in range(3):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    cleared.set()


async def test_a_task_that_makes_something_else_of_a_cancellation_is_cancelled_again():
    cleared = asyncio.Event()
    task = asyncio.create_task(stubborn(cleared))
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task), 10)
    assert cleared.is_set()


async def test_what_tasks_end_with_is_nobodys_concern():
    async def breaks():
        raise ValueError

    broken, never = asyncio.create_task(breaks()), asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    await end(broken, never)
    assert broken.done()
    assert never.cancelled()


async def test_who_is_cancelled_while_he_ends_a_task_leaves_none_behind():
    cleared = asyncio.Event()
    task = asyncio.create_task(stubborn(cleared))
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0.01)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.done()
    assert cleared.is_set()


async def test_what_is_cleared_up_is_cleared_up_to_the_end_however_often_it_is_cancelled():
    steps = []

    async def clear_up():
        for step in range(3):
            await asyncio.sleep(0.15)
            steps.append(step)

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await to_the_end(clear_up())

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task)  # cancelled again after 0.2 s
    assert steps == [0, 1, 2]
    assert task.cancelled()


async def test_what_the_work_gives_and_what_it_fails_with_is_passed_on():
    async def fails():
        raise ValueError("broken")

    assert await to_the_end(asyncio.sleep(0, 7)) == 7
    with pytest.raises(ValueError, match="broken"):
        await to_the_end(fails())
