"""Working off a message: recording, retries, poison, stopping; the real Redis, and a move of our own."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.answers import Attempt
from workers.errors import (
    DigestMismatch,
    OriginsExhausted,
    OriginThrottled,
    OriginTimeout,
    SoftNotFound,
    WireError,
)
from workers.ledger.claims import ClaimState, RunState, WantedKey
from workers.ledger.ledger import Ledger
from workers.plan import (
    AbsentAtOrigin,
    AlreadyPresent,
    Batch,
    FetchItem,
    FetchPlan,
    Lane,
    Origin,
    OriginGroup,
    Skipped,
    Stored,
    decode_batch,
    encode_batch,
)
from workers.queue import recording
from workers.queue import runner as running
from workers.queue.leases import LeaseKeeper
from workers.queue.queue import JobQueue
from workers.queue.runner import MAX_DELIVERIES, BatchRunner
from workers.settings import BrokerSettings, LimitSettings

pytestmark = pytest.mark.real
PLAN = FetchPlan(bucket="site", rule="r", epoch=3, groups=(OriginGroup(primary=Origin(host="o.example")),))


class Setup:
    def __init__(self, url):
        self.broker = BrokerSettings(url=url, namespace="run")
        self.ledger = Ledger.open(self.broker)
        self.queue = JobQueue.open(self.broker)
        self.live = True
        self.moves = {}
        self.calls = []
        self.seen = []
        self.runner = self.make()

    def make(self, **limits):
        return BatchRunner(
            ledger=self.ledger,
            queue=self.queue,
            mover=self,
            epochs=SimpleNamespace(is_live=self.is_live),
            leases=LeaseKeeper(self.ledger.claims, owner="me"),
            limits=LimitSettings(max_attempts=3, drain_s=0.2, **limits),
            observer=SimpleNamespace(
                finished=lambda *a: self.seen.append(a[1]),
                failed=lambda _, why, listed: self.seen.append((why, listed)),
            ),
        )

    async def is_live(self, bucket, rule, epoch):
        return self.live

    async def move(self, plan, item, this, *, lane):
        self.calls.append((item.key, item.attempt, this.attempt, this.look_first))
        result = self.moves.get(item.key, Stored(key=item.key, size=5, etag="e", origin="o", url="u"))
        if callable(result):
            result = await result()
        if isinstance(result, Exception):
            raise result
        return result

    async def run(self, *keys, **more):
        items = tuple(FetchItem(key=key, path=key, position=at) for at, key in enumerate(keys))
        more = {"id": "m1", "missing_at": time.time()} | more
        batch = Batch(plan=PLAN, items=items, **more)
        await self.runner.run(encode_batch(batch))

    async def delayed(self, lane=Lane.HOT):
        rows = await self.queue._redis.hgetall(f"run:delayed:{lane}.msgs")
        return [decode_batch(__import__("json").loads(row)["kwargs"]["batch"]) for row in rows.values()]

    async def waiting(self, lane=Lane.HOT):
        rows = await self.queue._redis.hgetall(f"run:{lane}.msgs")
        return [decode_batch(__import__("json").loads(row)["kwargs"]["batch"]) for row in rows.values()]


@pytest.fixture
async def setup(valkey_url):
    setup = Setup(valkey_url)
    await setup.ledger.redis.flushall()
    yield setup
    await setup.ledger.close()
    await setup.queue.close()


def exhausted(last):
    return OriginsExhausted("all failed", attempts=[Attempt(origin="o", error=last.reason)], last=last)


async def test_outcomes_are_recorded_and_claims_released(setup):
    setup.moves = {
        "b": AlreadyPresent(key="b"),
        "c": AbsentAtOrigin(key="c"),
        "d": Skipped(key="d", reason="too_large"),
    }
    await setup.ledger.outcomes.open_batch("scan", 7, size=4, group="g")
    await setup.run("a", "b", "c", "d", scan="scan", batch=7, lane=Lane.COLD)
    counts = await setup.ledger.outcomes.counts("site")
    assert counts["r", "stored"] == counts["r", "already_present"] == counts["r", "skipped"] == 1
    assert (counts["r", "absent_at_origin"], counts["r", "bytes"]) == (1, 5)
    assert (await setup.ledger.outcomes.totals("scan"))["g"] == {
        "stored": 1, "already_present": 1, "absent_at_origin": 1, "skipped": 1, "bytes": 5,
    }  # fmt: skip
    assert not any([await setup.ledger.claims.is_running("site", key) for key in "abcd"])
    assert await setup.ledger.claims.standing("site", "c") is RunState.ABSENT
    assert setup.seen == ["stored", "already_present", "absent_at_origin", "skipped"]


async def test_a_failing_item_never_fails_its_batch_and_is_retried_alone(setup):
    setup.moves["b"] = exhausted(OriginTimeout("slow", origin="o"))
    await setup.run("a", "b", "c")
    assert (await setup.ledger.outcomes.counts("site"))["r", "stored"] == 2
    (again,) = await setup.delayed()
    assert [(item.key, item.attempt) for item in again.items] == [("b", 1)]
    assert await setup.ledger.failures.count("site") == 0
    assert setup.seen.count(("origin_timeout", False)) == 1


async def test_after_the_last_attempt_a_failure_is_listed_with_the_way_taken(setup):
    setup.moves["b"] = exhausted(DigestMismatch("x", origin="o", algorithm="md5", expected="0", actual="1"))
    item = FetchItem(key="b", path="b", attempt=2)
    await setup.runner.run(encode_batch(Batch(plan=PLAN, items=(item,), id="m")))
    failure = await setup.ledger.failures.get("site", "b")
    assert (failure.reason, failure.tries, failure.attempts[0].origin) == ("digest_mismatch", 3, "o")
    assert await setup.delayed() == []


async def test_what_cannot_get_better_is_not_tried_again(setup):
    setup.moves["b"] = SoftNotFound("error page", origin="o")
    await setup.run("b")
    assert (await setup.ledger.failures.get("site", "b")).reason == "soft_404"


async def test_p44_being_throttled_spends_no_attempt(setup):
    setup.moves["b"] = exhausted(OriginThrottled("429", origin="o", status=429, retry_after_s=30))
    for attempt in range(20):
        item = FetchItem(key="b", path="b", attempt=2)
        await setup.runner.run(encode_batch(Batch(plan=PLAN, items=(item,), id=f"m{attempt}")))
    assert {one.items[0].attempt for one in await setup.delayed()} == {2}
    assert await setup.ledger.failures.count("site") == 0


async def test_a_success_clears_an_older_failure(setup):
    setup.moves["b"] = SoftNotFound("error page", origin="o")
    await setup.run("b")
    setup.moves.clear()
    await setup.run("b", id="m2")
    assert await setup.ledger.failures.count("site") == 0


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


async def claimed(setup, *keys, owner="d"):
    states = await setup.ledger.claims.claim_many("site", keys, lane=Lane.HOT, owner=owner)
    await setup.ledger.claims.mark_queued("site", keys, lane=Lane.HOT, owner=owner)
    return states


async def test_a_visitor_and_a_message_never_both_ask_the_origin(setup):
    """Whichever comes first; also when the message waited longer than the mark of what is stored lasts."""
    await claimed(setup, "a", "b", "c")
    for key in "bc":
        await setup.ledger.claims.start_wanted([WantedKey("site", key)], owner="front-1")
    await setup.ledger.claims.finish("site", ["b"], owner="front-1")
    await setup.ledger.claims.release("site", ["c"], owner="front-1")
    await setup.run("a", "b", "c", claim="d")
    assert [(key, look) for key, _, _, look in setup.calls] == [("a", False), ("b", True), ("c", True)]
    assert await setup.ledger.claims.start_wanted([WantedKey("site", "a")], owner="front-1") == [
        RunState.STORED
    ]
    await setup.ledger.claims.finish("site", ["a"], owner="front-1")
    setup.calls.clear()
    await setup.run("a", scan="scan", batch=0, lane=Lane.COLD)
    await setup.run("d", scan="scan", batch=1, lane=Lane.COLD)
    await setup.run("e", scan="scan", batch=2, lane=Lane.COLD, missing_at=time.time() - 60)
    await setup.run("f", missing_at=0)
    looks = [("a", True), ("d", False), ("e", True), ("f", True)]
    assert [(key, look) for key, _, _, look in setup.calls] == looks


async def test_a_retry_and_a_return_keep_the_identity_of_the_first_try(setup):
    """S11: what an earlier try wrote, although its answer was lost, is stored by us and not by another."""
    setup.moves["b"] = exhausted(OriginTimeout("slow", origin="o"))
    await setup.run("a", "b")
    (again,) = await setup.delayed()
    assert again.items[0].tried_as == "m1-1"
    await setup.runner.run(encode_batch(again))
    assert setup.calls[-1] == ("b", 1, "m1-1", True)


async def test_the_claim_of_a_retry_goes_with_its_message(setup):
    """A rule that is withdrawn while a retry waits must not keep later events out."""
    setup.moves["a"] = exhausted(OriginTimeout("slow", origin="o"))
    for message, more in (("m1", {"claim": "d"}), ("m2", {"scan": "scan", "batch": 0})):
        await setup.queue._redis.flushdb()
        if "claim" in more:
            await claimed(setup, "a")
        setup.live = True
        await setup.run("a", id=message, **more)
        (again,) = await setup.delayed()
        assert await claimed(setup, "a", owner="event") == [ClaimState.DUPLICATE]
        setup.live = False
        await setup.runner.run(encode_batch(again))
        assert await claimed(setup, "a", owner="event") == [ClaimState.CLAIMED]
        await setup.ledger.claims.forget("site", ["a"], lane=Lane.HOT, claim="event")


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


@pytest.mark.parametrize("how", ["withdrawn", "tombstone", "poison"])
async def test_a_message_that_is_dropped_leaves_no_claim_behind(setup, how):
    """Else events of the key would be duplicates of nothing for an hour."""
    await claimed(setup, "a")
    if how == "tombstone":
        await setup.ledger.claims.add_tombstones("site", ["a"], ttl_s=60, reason="deleted")
    for number in range(MAX_DELIVERIES if how == "poison" else 0):
        await setup.ledger.begin_delivery("m1", str(number))
    setup.live = how != "withdrawn"
    await setup.run("a", claim="d")
    assert setup.calls == []
    await setup.ledger.claims.remove_tombstones("site", ["a"])
    assert await claimed(setup, "a", owner="later") == [ClaimState.CLAIMED]


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


async def test_a_withdrawn_rule_skips_its_jobs(setup):
    setup.live = False
    await setup.run("a")
    assert setup.calls == []
    assert (await setup.ledger.outcomes.counts("site"))["r", "skipped"] == 1


async def test_keys_that_somebody_else_moves_wait_and_spend_nothing(setup):
    await setup.ledger.claims.start("site", ["a"], owner="other")
    await setup.run("a", "b")
    assert [call[0] for call in setup.calls] == ["b"]
    (again,) = await setup.delayed()
    assert [(item.key, item.attempt, item.tried_as) for item in again.items] == [("a", 0, "m1-0")]
    assert await setup.ledger.claims.is_running("site", "a")


async def test_tombstones_are_skipped(setup):
    await setup.ledger.claims.add_tombstones("site", ["a"], ttl_s=60, reason="deleted")
    await setup.run("a")
    assert setup.calls == []


async def test_a_fault_of_ours_is_a_listed_failure_not_a_lost_key(setup):
    setup.moves["a"] = ZeroDivisionError("bug")
    await setup.run("a", "b")
    assert (await setup.ledger.failures.get("site", "a")).reason == "internal_error"
    assert (await setup.ledger.outcomes.counts("site"))["r", "stored"] == 1


async def test_what_ends_while_others_are_being_recorded_is_recorded_too(setup, monkeypatch):
    """Recording waits for as long as Redis is away: meanwhile the rest of the batch may come to its end."""
    gate, record = asyncio.Event(), setup.runner._recorder.record

    async def later():
        await gate.wait()
        return Stored(key="b", size=5, etag="e", origin="o", url="u")

    async def slow(*args, **more):
        gate.set()
        while setup.runner._hands._hands:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0)
        await record(*args, **more)

    setup.moves["b"] = later
    monkeypatch.setattr(setup.runner._recorder, "record", slow)
    await setup.run("a", "b")
    assert (await setup.ledger.outcomes.counts("site"))["r", "stored"] == 2
    assert not await setup.ledger.claims.is_running("site", "b")


async def test_stopping_returns_what_is_not_finished_to_the_queue(setup):
    started = asyncio.Event()

    async def forever():
        started.set()
        await asyncio.sleep(600)

    setup.runner = setup.make(item_concurrency=2)
    setup.moves["a"] = forever
    setup.moves["b"] = forever
    began = time.monotonic()
    work = asyncio.create_task(setup.run("a", "b", "c", "d"))
    await started.wait()
    setup.runner.stop()
    await work
    assert time.monotonic() - began < 10
    items = sorted((item.key, item.attempt) for one in await setup.waiting() for item in one.items)
    assert items == [("a", 0), ("b", 0), ("c", 0), ("d", 0)]
    assert not await setup.ledger.claims.is_running("site", "a")


async def test_a_paused_scans_batch_waits_and_a_cancelled_ones_is_dropped(setup):
    await setup.ledger.outcomes.stop_scan("scan", "pause")
    await setup.run("a", scan="scan", batch=0, lane=Lane.COLD)
    assert (setup.calls, len(await setup.delayed(Lane.COLD))) == ([], 1)
    await setup.ledger.outcomes.stop_scan("scan", "cancel")
    await setup.ledger.outcomes.open_batch("scan", 0, size=1, group="g")
    await setup.run("a", scan="scan", batch=0, lane=Lane.COLD, id="m2")
    assert (await setup.ledger.outcomes.totals("scan"))["g"] == {"skipped": 1}


async def test_a_fault_of_ours_in_recording_lists_what_was_not_written_down(setup, monkeypatch):
    """And lets go of the claims, so that the next message of the key finds it free."""
    mark = setup.ledger.claims.mark_absent
    faults = []

    async def broken(*a, **more):
        if not faults:
            faults.append(1)
            raise ZeroDivisionError("bug")
        await mark(*a, **more)

    async def forever():
        await asyncio.sleep(600)

    setup.moves["b"] = forever
    monkeypatch.setattr(setup.ledger.claims, "mark_absent", broken)
    monkeypatch.setattr(running, "RECORD_EVERY_S", 0.05)
    await setup.run("a", "b")
    assert {one.key async for one in setup.ledger.failures.iterate("site")} == {"a", "b"}
    assert not any([await setup.ledger.claims.is_running("site", key) for key in "ab"])
    assert not any(setup.runner._leases.holds("site", key) for key in "ab")


async def test_the_keys_of_a_message_that_cannot_be_read_are_listed(setup):
    """Dead letters are deleted after a week; the failures list is not."""
    wire = encode_batch(Batch(plan=PLAN, items=(FetchItem(key="a", path="a"),), lane=Lane.COLD))
    with pytest.raises(WireError, match="version 9"):
        await setup.runner.run({**wire, "v": 9})
    failure = await setup.ledger.failures.get("site", "a")
    assert (failure.reason, failure.rule, failure.lane) == ("unreadable_message", "r", "cold")


async def test_a_message_that_cannot_be_read_leaves_no_claim_and_no_open_place_of_a_scan(setup):
    """Else an event for its key would count as a duplicate for an hour, and its scan would wait for ever."""
    items = tuple(FetchItem(key=key, path=key, position=at) for at, key in enumerate("ab"))
    wire = encode_batch(Batch(plan=PLAN, items=items, claim="me", scan="scan", batch=7))
    claims = setup.ledger.claims
    await setup.ledger.outcomes.open_batch("scan", 7, size=2, group="g")
    await claims.claim_many("site", ["a", "b"], lane=Lane.HOT, owner="me")
    await claims.mark_queued("site", ["a", "b"], lane=Lane.HOT, owner="me")
    with pytest.raises(WireError, match="version 9"):
        await setup.runner.run({**wire, "v": 9})
    assert await claims.claim_many("site", ["a", "b"], lane=Lane.HOT, owner="other") == ["claimed"] * 2
    assert (await setup.ledger.outcomes.totals("scan"))["g"] == {"failed": 2}
    with pytest.raises(WireError):  # what can be told of it may be anything
        await setup.runner.run({**wire, "v": 9, "claim": 7, "scan": ["x"], "items": [{"key": "a"}, 3]})


async def test_a_message_of_another_version_is_refused(setup):
    with pytest.raises(WireError, match="version 9"):
        await setup.runner.run({"v": 9})
    with pytest.raises(WireError, match="items"):
        await setup.runner.run({"v": 1, "plan": {"bucket": "b", "rule": "r", "groups": []}})


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
