"""Reports that processes leave, and what they do on their own."""

from __future__ import annotations

import pytest
import redis.asyncio

from support.origin.controls import A, B, eject, first, until
from workers.errors import BrokerUnavailable, BudgetExhausted
from workers.origin.control.control import OriginControl
from workers.origin.control.fleet import Fleet
from workers.plan import Lane
from workers.settings import BudgetSettings, OriginSettings


async def test_processes_leave_reports_and_withdraw_them(process, connect, namespace):
    control = await process()
    (await control.acquire(A, Lane.HOT, timeout_s=1)).release()
    control.succeeded(A, 0.02)
    fleet = Fleet(connect(), namespace=namespace, process="reader")
    assert len(await fleet.reports()) == 1
    await control.close()
    assert await fleet.reports() == []


class Flaky:
    """Stands between a control and its Redis, and can be cut."""

    def __init__(self, fleet: Fleet, monkeypatch) -> None:
        self.cut = False
        run = fleet._run

        async def maybe(script, key, args):
            if self.cut:
                raise BrokerUnavailable("cut")
            return await run(script, key, args)

        monkeypatch.setattr(fleet, "_run", maybe)


async def test_without_redis_each_process_keeps_its_last_share_and_comes_back(process, monkeypatch):
    one, other = await process(BudgetSettings(concurrency=8)), await process(BudgetSettings(concurrency=8))
    held = [
        *[await one.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)],
        *[await other.acquire(A, Lane.HOT, timeout_s=5) for _ in range(4)],
    ]
    lines = [Flaky(control._fleet, monkeypatch) for control in (one, other)]
    for line in lines:
        line.cut = True
    for control in (one, other):
        await control._sync()
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0.3)
    for slot in held:
        slot.release()
    for control in (one, other):
        await control._sync()
        slots = [await control.acquire(A, Lane.HOT, timeout_s=0.3) for _ in range(4)]
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0)
        for slot in slots:
            slot.release()
    for line in lines:
        line.cut = False
    slots = [await one.acquire(A, Lane.HOT, timeout_s=12) for _ in range(8)]
    assert len(slots) == 8


async def test_ejections_decided_while_redis_was_away_are_published_afterwards(process, monkeypatch):
    one, other = await process(), await process()
    line = Flaky(one._fleet, monkeypatch)
    line.cut = True
    eject(one)
    await one._sync()
    assert first(one) == B
    assert first(other) == A
    line.cut = False
    await until(lambda: first(other) == B, 4)


async def test_a_server_that_is_not_there_costs_nothing_but_the_sharing():
    client = redis.asyncio.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=None)
    settings = OriginSettings(
        adaptive=False, budgets={A: BudgetSettings(concurrency=16, requests_per_s=1000)}
    )
    async with OriginControl(settings, redis=client) as control:
        assert first(control) == A
        slots = [await control.acquire(A, Lane.HOT, timeout_s=5) for _ in range(2)]
        with pytest.raises(BudgetExhausted):
            await control.acquire(A, Lane.HOT, timeout_s=0.2)
        for slot in slots:
            slot.release()
    await client.aclose()
