"""Calls that share a round trip."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.front.pull.gathered import Gathered


class Server:
    """Doubles numbers; each call waits until it is let go."""

    def __init__(self):
        self.calls = []
        self.go = asyncio.Event()
        self.fails = []

    async def __call__(self, numbers):
        self.calls.append(list(numbers))
        await self.go.wait()
        if self.fails:
            raise self.fails.pop(0)
        return [2 * number for number in numbers]


async def _asked(gathered, numbers):
    tasks = [asyncio.create_task(gathered.ask(number)) for number in numbers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_during_a_call_goes_together_in_the_next():
    server = Server()
    gathered = Gathered(server)
    tasks = await _asked(gathered, [1])
    tasks += await _asked(gathered, [2, 3, 4])
    assert server.calls == [[1]]
    server.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert server.calls == [[1], [2, 3, 4]]
    assert await gathered.ask(5) == 10, "and it begins anew"


async def test_a_failed_call_fails_for_those_it_carried_and_for_nobody_else():
    server = Server()
    server.fails = [ConnectionError("away")]
    gathered = Gathered(server)
    first = await _asked(gathered, [1])
    second = await _asked(gathered, [2])
    server.go.set()
    with pytest.raises(ConnectionError, match="away"):
        await first[0]
    assert await second[0] == 4


async def test_a_caller_who_leaves_takes_nothing_from_the_others():
    server = Server()
    gathered = Gathered(server)
    tasks = await _asked(gathered, [1, 2])
    tasks[0].cancel()
    server.go.set()
    assert await tasks[1] == 4
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
