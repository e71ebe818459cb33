"""A message that comes more than once: its worker was killed, or Redis forgot; or it kills its workers."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from support.batches import PLAN, exhausted
from workers.errors import (
    OriginTimeout,
    SoftNotFound,
)
from workers.plan import (
    Batch,
    FetchItem,
    Lane,
    Stored,
    encode_batch,
)
from workers.queue import recording
from workers.queue import runner as running
from workers.queue.runner import MAX_DELIVERIES

pytestmark = pytest.mark.real


async def test_p49_a_message_that_kills_its_worker_becomes_listed_failures(setup):
    for number in range(MAX_DELIVERIES):
        await setup.ledger.begin_delivery("m1", str(number))
    await setup.run("a", "b")
    assert setup.calls == []
    assert {(one.key, one.reason) async for one in setup.ledger.failures.iterate("site")} == {
        ("a", "poison_message"),
        ("b", "poison_message"),
    }


async def test_p49_deaths_are_counted_although_each_time_the_dead_worker_still_holds_the_key(setup):
    """Its heartbeat is missed before its lease ends, and it goes back as another message each time."""
    batch = Batch(plan=PLAN, items=(FetchItem(key="a", path="a"),), id="m0", missing_at=time.time())
    for number in range(MAX_DELIVERIES):
        assert await setup.ledger.failures.get("site", "a") is None
        # Killed in the middle of it, and delivered again before the lease has ended.
        await setup.ledger.begin_delivery(batch.id, f"killed-{number}")
        await setup.ledger.claims.start("site", ["a"], owner=f"dead-{number}")
        await setup.runner.run(encode_batch(batch))
        await setup.ledger.claims.release("site", ["a"], owner=f"dead-{number}")
        if number < MAX_DELIVERIES - 1:
            (batch,) = await setup.delayed()
            await setup.queue._redis.flushdb()
    assert setup.calls == []
    failure = await setup.ledger.failures.get("site", "a")
    assert (failure.reason, failure.message.split(" before")[0]) == (
        "poison_message",
        f"its worker died {MAX_DELIVERIES} times",
    )
    assert await setup.delayed() == []


async def test_p49_of_a_message_only_the_deadly_key_is_listed_and_the_others_are_moved(setup):
    items = (FetchItem(key="a", path="a", deaths=MAX_DELIVERIES), FetchItem(key="b", path="b", deaths=1))
    await setup.runner.run(encode_batch(Batch(plan=PLAN, items=items, id="m", missing_at=time.time())))
    assert [call[0] for call in setup.calls] == ["b"]
    failures = [one async for one in setup.ledger.failures.iterate("site")]
    assert [(one.key, one.item.deaths) for one in failures] == [("a", 0)], "a retry on demand begins anew"


async def test_p49_a_try_that_ends_in_order_wipes_out_the_deaths_before_it(setup):
    setup.moves["a"] = exhausted(OriginTimeout("slow", origin="o"))
    items = (FetchItem(key="a", path="a", deaths=3),)
    await setup.runner.run(encode_batch(Batch(plan=PLAN, items=items, id="m", missing_at=time.time())))
    (again,) = await setup.delayed()
    assert [(item.attempt, item.deaths) for item in again.items] == [(1, 0)]


async def test_p42_a_redelivered_message_looks_before_it_fetches_under_the_same_attempt(setup):
    await setup.ledger.begin_delivery("m1", "0")
    await setup.run("a")
    assert setup.calls == [("a", 0, "m1-0", True)]


async def test_p42_the_same_message_twice_is_stored_once_and_then_already_present(setup):
    """P42: the second finds the object of its own try, which the first has recorded."""
    await setup.run("a")
    setup.moves["a"] = Stored(key="a", size=5, etag="e", origin="", url="")
    await setup.run("a")
    assert setup.calls[-1] == ("a", 0, "m1-0", True)
    counts = await setup.ledger.outcomes.counts("site")
    assert (counts["r", "stored"], counts["r", "already_present"]) == (1, 1)


async def test_a_scan_batch_that_comes_twice_is_worked_off_once(setup):
    """P42: its coordinator died between queue and checkpoint."""
    await setup.ledger.outcomes.open_batch("scan", 0, size=2, group="")
    setup.moves["b"] = SoftNotFound("error page", origin="o")
    for message in ("m1", "m2"):
        await setup.run("a", "b", id=message, scan="scan", batch=0, lane=Lane.COLD)
    assert [call[:3] for call in setup.calls] == [("a", 0, "m1-0"), ("b", 0, "m1-1"), ("b", 0, "m2-1")]


async def test_a_place_that_is_settled_keeps_no_claim_queued_when_redis_forgot_that_it_went(setup):
    """The place was recorded, the claim given up, and Redis came back with the first of these only."""
    await setup.ledger.outcomes.open_batch("scan", 0, size=2, group="")
    await setup.ledger.outcomes.set_places("scan", 0, [(0, "stored", 1)])
    claims = setup.ledger.claims
    for lane, owner, key in ((Lane.COLD, "mine", "a"), (Lane.HOT, "others", "b")):
        await claims.claim_many("site", [key], lane=lane, owner=owner)
        await claims.mark_queued("site", [key], lane=lane, owner=owner)
    await setup.ledger.outcomes.set_places("scan", 0, [(1, "stored", 1)])
    await setup.run("a", "b", id="m1", scan="scan", batch=0, lane=Lane.COLD, claim="mine")
    assert setup.calls == []
    states = await claims.claim_many("site", ["a", "b"], lane=Lane.COLD, owner="me")
    assert states == ["claimed", "duplicate"]


async def test_poison_lists_only_what_a_scan_still_lacks(setup):
    await setup.ledger.outcomes.open_batch("scan", 0, size=2, group="")
    await setup.ledger.outcomes.set_places("scan", 0, [(0, "stored", 1)])
    for number in range(MAX_DELIVERIES):
        await setup.ledger.begin_delivery("m1", str(number))
    await setup.run("a", "b", scan="scan", batch=0, lane=Lane.COLD)
    assert [one.key async for one in setup.ledger.failures.iterate("site")] == ["b"]


async def test_a_key_that_this_process_moves_already_stays_claimed_when_its_message_comes_twice(setup):
    moving, go = asyncio.Event(), asyncio.Event()

    async def slowly():
        moving.set()
        await go.wait()
        return Stored(key="a", size=5, etag="e", origin="o", url="u")

    setup.moves["a"] = slowly
    first = asyncio.create_task(setup.run("a"))
    await moving.wait()
    await setup.run("a", id="m2")
    assert len(await setup.delayed()) == 1
    assert await setup.ledger.claims.is_running("site", "a")
    setup.live = False
    await setup.run("a", id="m3")
    assert await setup.ledger.claims.is_running("site", "a")
    assert setup.runner._leases.holds("site", "a"), "the lease is renewed all the while"
    go.set()
    await first
    assert not await setup.ledger.claims.is_running("site", "a")


async def test_what_a_killed_delivery_recorded_is_neither_worked_off_nor_counted_again(setup, monkeypatch):
    """A batch is recorded as it goes; its worker may die before the last item."""
    monkeypatch.setattr(running, "RECORD_EVERY_S", 0.05)
    hanging = asyncio.Event()

    async def forever():
        hanging.set()
        await asyncio.sleep(600)

    setup.moves |= {"b": forever, "c": exhausted(OriginTimeout("slow", origin="o"))}
    killed = asyncio.create_task(setup.run("a", "b", "c"))
    await hanging.wait()
    deadline = time.monotonic() + 30
    while await setup.ledger.done("m1") != {"a", "c"} or not await setup.ledger.outcomes.counts("site"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    setup.runner = setup.make()
    setup.moves.clear()
    setup.calls.clear()
    await setup.run("a", "b", "c")
    assert setup.calls == [("b", 0, "m1-1", True)]
    assert (await setup.ledger.outcomes.counts("site"))["r", "stored"] == 2
    assert [item.key for one in await setup.delayed() for item in one.items] == ["c"]
    assert await setup.ledger.done("m1") == frozenset()


@pytest.mark.parametrize("when", ["before its delivery ends", "between two records"])
async def test_what_a_redis_without_its_last_second_forgot_of_a_message_is_recorded_again(
    setup, monkeypatch, when
):
    """Its claims would stay queued for an hour, and no message would stand behind them."""
    monkeypatch.setattr(recording, "REDIS_RETRY_S", 0.01)
    ledger, keys = setup.ledger, ["a", "b"]
    await ledger.claims.claim_many("site", keys, lane=Lane.HOT, owner="c1")
    await ledger.claims.mark_queued("site", keys, lane=Lane.HOT, owner="c1")
    names = [f"{ledger.namespace}:claim:site\0{key}" for key in keys]
    queued = await ledger.redis.mget(names)
    assert all(value.startswith("queued|") for value in queued)
    forgot = []

    def forgets(owner, method):
        call = getattr(owner, method)

        async def once(*args, **more):
            if not forgot:
                forgot.append(await ledger.redis.mget(names))
                await ledger.redis.delete(f"{ledger.namespace}:done:m1")
                await ledger.redis.mset(dict(zip(names, queued, strict=True)))
                raise RedisConnectionError("it is back without its last second")
            return await call(*args, **more)

        monkeypatch.setattr(owner, method, once)

    async def second():
        await asyncio.sleep(running.RECORD_EVERY_S + 0.3)  # the first is recorded meanwhile
        forgets(ledger.failures, "add")
        return Stored(key="b", size=5, etag="e", origin="o", url="u")

    if when == "between two records":
        setup.moves["b"] = second
    else:
        forgets(ledger, "end_delivery")
    await setup.run(*keys, claim="c1")
    assert forgot[0][0].startswith("stored|")
    assert all(value is None or value.startswith("stored|") for value in await ledger.redis.mget(names))
