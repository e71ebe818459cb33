"""What a front asks of the ledger for a key that a client waits for, over fakeredis and the real server."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from scheduler.front.pull.claim import FrontClaims
from scheduler.front.s3.tombstones import NotBuried, Tombstones
from workers.broker.clients import connect
from workers.ledger.claims import LATE_MS, Claims, ClaimState, RunState, WantedKey
from workers.ledger.failures import Failures
from workers.plan import Lane
from workers.settings import BrokerSettings


@pytest.fixture
def claims(redis):
    return Claims(redis, namespace=f"t{uuid.uuid4().hex[:8]}")


async def test_a_client_takes_a_key_that_only_waits_in_the_queue(claims):
    await claims.claim_many("b", ["k"], lane=Lane.HOT, owner="d")
    await claims.mark_queued("b", ["k"], lane=Lane.HOT, owner="d")
    assert await claims.start_wanted([WantedKey("b", "k")], owner="front") == [RunState.STARTED]
    assert await claims.start_wanted([WantedKey("b", "k")], owner="other") == [RunState.BUSY]
    await claims.release("b", ["k"], owner="front")
    assert await claims.start_wanted([WantedKey("b", "k")], owner="other") == [RunState.STARTED]


async def test_a_pull_that_ended_well_tells_those_who_looked_just_before(claims):
    await claims.start_wanted([WantedKey("b", "k")], owner="front")
    await claims.finish("b", ["k"], owner="front")
    assert not await claims.is_running("b", "k")
    assert await claims.start_wanted([WantedKey("b", "k")], owner="other") == [RunState.STORED]
    assert await claims.claim_many("b", ["k"], lane=Lane.COLD, owner="d") == [ClaimState.CLAIMED]
    await claims.forget("b", ["k"], lane=Lane.COLD, claim="d")
    await claims.start_wanted([WantedKey("b", "k")], owner="front")
    await claims.finish("b", ["k"], owner="front")
    assert await claims.start_wanted([WantedKey("b", "k", heed_stored=False)], owner="other") == [
        RunState.STARTED
    ]
    await claims.finish("b", ["k"], owner="front")
    assert await claims.is_running("b", "k"), "only the owner finishes"


async def test_absent_keys_and_tombstones_are_not_taken(claims):
    await claims.mark_absent("b", ["a"], ttl_s=10)
    await claims.add_tombstones("b", ["t"], ttl_s=10, reason="deleted")
    assert await claims.start_wanted([WantedKey("b", "a")], owner="front") == [RunState.ABSENT]
    assert await claims.start_wanted([WantedKey("b", "t")], owner="front") == [RunState.TOMBSTONE]
    assert not await claims.is_running("b", "a")


async def test_keys_of_several_buckets_are_asked_for_together_each_with_its_own_answer(claims):
    await claims.add_tombstones("b", ["t"], ttl_s=10, reason="deleted")
    for bucket in ("b", "c"):
        await claims.start_wanted([WantedKey(bucket, "s")], owner="front")
        await claims.finish(bucket, ["s"], owner="front")
    wanted = [
        WantedKey("b", "t"),
        WantedKey("b", "s"),
        WantedKey("c", "s", heed_stored=False),
        WantedKey("c", "n"),
    ]
    wanted += [WantedKey("b", f"many/{number}") for number in range(600)]
    states = await claims.start_wanted(wanted, owner="front")
    assert states[:4] == [RunState.TOMBSTONE, RunState.STORED, RunState.STARTED, RunState.STARTED]
    assert states[4:] == [RunState.STARTED] * 600


async def test_what_a_rule_found_absent_is_not_so_for_another_rule_or_another_version_of_it(claims):
    await claims.mark_absent("b", ["a"], ttl_s=10, rule="r 1")
    states = {}
    for rule in ("r 2", "other 1", "r 1", ""):
        key = WantedKey("b", "a", rule=rule)
        (states[rule],) = await claims.start_wanted([key], owner="front")
        await claims.release("b", ["a"], owner="front")
        (claimed,) = await claims.claim_many("b", ["a"], lane=Lane.HOT, owner="d", rules=[rule])
        assert (claimed is ClaimState.ABSENT) is (states[rule] is RunState.ABSENT)
        assert await claims.standing("b", "a", rule=rule) is states[rule]
        await claims.forget("b", ["a"], lane=Lane.HOT, claim="d")
    assert [rule for rule, state in states.items() if state is RunState.ABSENT] == ["r 1", ""]
    many = [f"k{number}" for number in range(600)]
    await claims.mark_absent("b", ["k599"], ttl_s=10, rule="r 1")
    asked = await claims.claim_many("b", many, lane=Lane.HOT, owner="d", rules=[*["r 2"] * 599, "r 1"])
    assert asked == [*[ClaimState.CLAIMED] * 599, ClaimState.ABSENT]


async def test_a_deleted_key_that_is_written_again_is_looked_for_by_whoever_saw_it_missing_before(claims):
    await claims.bury("b", ["k", "other"], mark="m", ttl_s=10)
    assert await claims.standing("b", "k") is RunState.TOMBSTONE
    await claims.unbury("b", {"k": None, "other": "m2"}, mark="m", ttl_s=10)
    assert await claims.standing("b", "k") is RunState.STORED
    assert await claims.start_wanted([WantedKey("b", "k")], owner="front") == [RunState.STORED]
    assert await claims.start("b", ["k"], owner="worker") == [RunState.STORED]
    assert await claims.standing("b", "other") is RunState.TOMBSTONE


async def test_what_the_store_never_answered_keeps_out_deletes_for_a_minute_and_nobody_else(claims):
    """It may yet appear, after the delete: then what was deleted would be back."""
    await claims.start_wanted([WantedKey("b", "k")], owner="front")
    await claims.note_late("b", "k")
    await claims.release("b", ["k"], owner="front")
    assert 50_000 < await claims._redis.pttl(claims._name("late", "b", "k")) <= LATE_MS
    assert await claims.bury("b", ["k", "other"], mark="m", ttl_s=10) == ({"k": None, "other": None}, ["k"])
    assert await claims.running("b", ["other", "k"]) == ["k"]
    with pytest.raises(NotBuried):
        await Tombstones(claims, wait_s=0.1).bury("b", ["k"], request_id="r")
    await claims.unbury("b", {"k": None}, mark="m", ttl_s=10)
    assert not await claims.is_running("b", "k"), "who wants it goes on"
    await claims._redis.delete(claims._name("late", "b", "k"))
    assert await claims.running("b", ["other", "k"]) == []


async def test_lifting_a_tombstone_leaves_the_claim_of_a_pull_alone(claims):
    await claims.start_wanted([WantedKey("b", "k")], owner="front")
    await claims.bury("b", ["k"], mark="m", ttl_s=10)
    await claims.unbury("b", {"k": None}, mark="m", ttl_s=10)
    assert await claims.standing("b", "k") is RunState.BUSY


async def test_every_process_hears_which_buckets_have_tombstones(claims):
    assert not claims.may_have_tombstones("b")
    other = Claims(claims._redis, namespace=claims._ns)
    await other.bury("b", ["k"], mark="m", ttl_s=10)
    await other.add_tombstones("c", ["k"], ttl_s=0.01, reason="deleted")
    assert other.may_have_tombstones("b"), "at once where it was done"
    await asyncio.sleep(0.02)
    await claims.learn_tombstoned()
    assert claims.may_have_tombstones("b")
    assert not claims.may_have_tombstones("c"), "its last one has expired"


async def test_a_bucket_is_not_forgotten_whose_next_tombstone_came_meanwhile(claims):
    await claims.bury("b", ["k"], mark="m", ttl_s=10)
    until = await claims.tombstoned_until("b")
    await claims.bury("b", ["other"], mark="m", ttl_s=10)
    await claims.forget_tombstoned("b", until)
    assert await claims.tombstoned_until("b") > until
    assert claims.may_have_tombstones("b")
    await claims.forget_tombstoned("b", await claims.tombstoned_until("b"))
    assert await claims.tombstoned_until("b") is None
    assert not claims.may_have_tombstones("b")


async def test_a_front_that_starts_while_redis_is_away_remembers_which_buckets_have_tombstones(
    claims, tmp_path
):
    memory = tmp_path / "tombstoned.json"
    failures = Failures(claims._redis, namespace=claims._ns)
    before = FrontClaims(claims, failures, owner="front-1", memory=memory)
    before.start()
    await claims.bury("b", ["k"], mark="m", ttl_s=60)
    await eventually(lambda: memory.is_file() and "b" in memory.read_text())
    await before.close()
    away = Claims(connect(BrokerSettings(url="redis://127.0.0.1:1/0")), namespace="t")
    after = FrontClaims(away, failures, owner="front-2", memory=memory)
    after.start()
    assert after.may_have_tombstones("b")
    assert not after.may_have_tombstones("c")
    await after.close()


async def eventually(holds):
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a file says nothing by itself
            await asyncio.sleep(0.05)
