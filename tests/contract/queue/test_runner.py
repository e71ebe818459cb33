"""Working off a message: recording, retries, stopping; the real Redis, and a move of our own."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.batches import PLAN, claimed, exhausted
from workers.errors import (
    DigestMismatch,
    OriginThrottled,
    OriginTimeout,
    SoftNotFound,
    WireError,
)
from workers.ledger.claims import ClaimState, RunState, WantedKey
from workers.plan import (
    AbsentAtOrigin,
    AlreadyPresent,
    Batch,
    FetchItem,
    Lane,
    Skipped,
    Stored,
    encode_batch,
)
from workers.queue import runner as running
from workers.queue.runner import MAX_DELIVERIES

pytestmark = pytest.mark.real


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
