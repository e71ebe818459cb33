"""`scan start --wait` while Redis comes and goes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisAway

from scheduler.commands import scan_view

REPORT = {
    "name": "s",
    "phase": "done",
    "paused": False,
    "waiting": "",
    "progress": {"settled": 1, "expected": 1, "objects_per_s": 1.0},
    "total": {"bytes": 1, "failed": 0},
}


class Service:
    """Redis is away for the first looks of everybody."""

    def __init__(self, error):
        self.error = error
        self.away = 2
        self.coordinated = 0
        self.states = SimpleNamespace(get=self.get)

    async def coordinate(self, name):
        self.coordinated += 1
        if self.away:
            raise self.error
        return True

    async def get(self, name):
        if self.away:
            self.away -= 1
            raise RedisAway("gone")
        return name

    async def report(self, state):
        return REPORT


async def test_a_redis_that_is_away_for_a_while_ends_no_wait():
    service = Service(RedisAway("gone"))
    assert await scan_view.watch(service, "s", quiet=True) == REPORT
    assert service.coordinated > 1


async def test_a_fault_of_ours_ends_it():
    with pytest.raises(ZeroDivisionError):
        await scan_view.watch(Service(ZeroDivisionError()), "s", quiet=True)
