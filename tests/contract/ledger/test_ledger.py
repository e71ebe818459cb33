"""The ledger's parts, each over the fake and the real Redis."""

from __future__ import annotations

import asyncio
import time

from workers.ledger.claims import ClaimState, RunState, WantedKey
from workers.ledger.failures import Failure
from workers.plan import Lane

B = "site"


async def claim(ledger, keys, lane=Lane.HOT, owner="d1", **more):
    return await ledger.claims.claim_many(B, keys, lane=lane, owner=owner, **more)


async def test_a_pending_claim_never_deduplicates(ledger):
    assert await claim(ledger, ["a"]) == [ClaimState.CLAIMED]
    assert await claim(ledger, ["a"], owner="d2") == [ClaimState.CLAIMED]


async def test_a_queued_claim_deduplicates_the_same_and_colder_lanes_and_hot_replaces_cold(ledger):
    await claim(ledger, ["a", "b"], lane=Lane.COLD)
    await ledger.claims.mark_queued(B, ["a", "b"], lane=Lane.COLD, owner="d1")
    assert await claim(ledger, ["a"], lane=Lane.COLD, owner="d2") == [ClaimState.DUPLICATE]
    assert await claim(ledger, ["a"], lane=Lane.HOT, owner="d2") == [ClaimState.CLAIMED]
    await ledger.claims.mark_queued(B, ["a"], lane=Lane.HOT, owner="d2")
    assert await claim(ledger, ["a"], lane=Lane.HOT, owner="d3") == [ClaimState.DUPLICATE]
    assert await claim(ledger, ["a"], lane=Lane.COLD, owner="d3") == [ClaimState.DUPLICATE]


async def test_a_running_claim_deduplicates_all_and_only_its_owner_releases_it(ledger):
    assert await ledger.claims.start(B, ["a"], owner="w1") == [RunState.STARTED]
    assert await ledger.claims.start(B, ["a"], owner="w2") == [RunState.BUSY]
    assert await ledger.claims.start(B, ["a"], owner="w1") == [RunState.STARTED]
    assert await claim(ledger, ["a"]) == [ClaimState.DUPLICATE]
    await ledger.claims.release(B, ["a"], owner="w2")
    assert await ledger.claims.is_running(B, "a")
    await ledger.claims.release(B, ["a"], owner="w1")
    assert not await ledger.claims.is_running(B, "a")


async def test_marking_queued_leaves_alone_what_a_worker_already_runs(ledger):
    await claim(ledger, ["a"])
    await ledger.claims.start(B, ["a"], owner="w1")
    await ledger.claims.mark_queued(B, ["a"], lane=Lane.HOT, owner="d1")
    assert await ledger.claims.is_running(B, "a")


async def test_a_message_that_is_dropped_gives_up_its_own_claims_and_no_other(ledger):
    await claim(ledger, ["a", "b", "c"])
    await ledger.claims.mark_queued(B, ["a", "b", "c"], lane=Lane.HOT, owner="d1")
    await ledger.claims.start(B, ["b"], owner="w1")
    await ledger.claims.forget(B, ["a", "c"], lane=Lane.HOT, claim="d2")
    await ledger.claims.forget(B, ["a", "b"], lane=Lane.HOT, claim="d1")
    states = [ClaimState.CLAIMED, ClaimState.DUPLICATE, ClaimState.DUPLICATE]
    assert await claim(ledger, ["a", "b", "c"]) == states


async def test_a_message_that_ends_takes_its_claim_along_though_redis_forgot_that_it_began(ledger):
    """A Redis that lost its last second, or failed over, has the claim as the message was queued with it."""
    claims = ledger.claims
    for key in ("stored", "failed", "others"):
        await claims.claim_many("site", [key], lane=Lane.HOT, owner="message")
        await claims.mark_queued("site", [key], lane=Lane.HOT, owner="message")
    await claims.claim_many("site", ["others"], lane=Lane.HOT, owner="another")
    await claims.finish("site", ["stored"], owner="worker", lane=Lane.HOT, claim="message")
    await claims.release("site", ["failed"], owner="worker", lane=Lane.HOT, claim="message")
    await claims.release("site", ["others"], owner="worker", lane=Lane.HOT, claim="not it")
    again = await claims.claim_many("site", ["stored", "failed", "others"], lane=Lane.HOT, owner="next")
    assert again == [ClaimState.CLAIMED, ClaimState.CLAIMED, ClaimState.DUPLICATE]
    assert await claims.start("site", ["stored"], owner="w", claim="next") == [RunState.LOOK]


async def test_whoever_starts_on_a_key_that_was_just_stored_looks_first(ledger):
    """Also a message whose claim somebody else has taken over, whatever became of it."""
    assert await ledger.claims.start(B, ["a", "b"], owner="w1") == [RunState.STARTED] * 2
    await ledger.claims.finish(B, ["a"], owner="w1")
    await ledger.claims.release(B, ["b"], owner="w1")
    assert await ledger.claims.start(B, ["a", "b"], owner="w2") == [RunState.STORED, RunState.STARTED]
    keys = ["untouched", "pulled", "failed", "stored"]
    await ledger.claims.start(B, ["stored"], owner="w1")
    await ledger.claims.finish(B, ["stored"], owner="w1")
    assert await claim(ledger, keys) == [ClaimState.CLAIMED] * 4
    await ledger.claims.mark_queued(B, keys, lane=Lane.HOT, owner="d1")
    assert await claim(ledger, ["stored"]) == [ClaimState.DUPLICATE]
    for key in ("pulled", "failed"):
        assert await ledger.claims.start_wanted([WantedKey(B, key)], owner="front-1") == [RunState.STARTED]
    await ledger.claims.finish(B, ["pulled"], owner="front-1")
    await ledger.claims.release(B, ["failed"], owner="front-1")
    states = await ledger.claims.start(B, keys, owner="w2", lane=Lane.HOT, claim="d1")
    assert states == [RunState.STARTED, RunState.STORED, RunState.LOOK, RunState.LOOK]


async def test_one_message_follows_the_pull_of_a_front_that_might_die(ledger):
    """A front's claim has no message behind it: nothing would come of the event if the front were killed."""
    assert await ledger.claims.start_wanted([WantedKey(B, "a")], owner="front-1") == [RunState.STARTED]
    states = [await claim(ledger, ["a"]) for _ in range(2)]
    assert states == [[ClaimState.CLAIMED]] * 2, "the first dispatcher may have died before the queue had it"
    await ledger.claims.mark_queued(B, ["a"], lane=Lane.HOT, owner="d1")
    assert await claim(ledger, ["a"]) == [ClaimState.DUPLICATE]
    assert await ledger.claims.is_running(B, "a"), "the front's claim is left alone"
    assert await ledger.claims.start(B, ["a"], owner="w1", claim="d1") == [RunState.BUSY]
    await ledger.claims.release(B, ["a"], owner="front-1")
    assert await ledger.claims.start(B, ["a"], owner="w1", claim="d1") == [RunState.LOOK]


async def test_places_of_a_scan_batch_that_are_final_are_known(ledger):
    assert await ledger.outcomes.settled("run", 3, [0, 1]) == frozenset()
    await ledger.outcomes.open_batch("run", 3, size=3, group="")
    await ledger.outcomes.set_places("run", 3, [(0, "stored", 1), (1, "failed", 0)])
    assert await ledger.outcomes.settled("run", 3, [0, 1, 2]) == {0}, "what failed may be tried again"
    await ledger.outcomes.set_places("run", 3, [(1, "stored", 1), (2, "skipped", 0)])
    assert await ledger.outcomes.settled("run", 3, [0, 1, 2]) == {0, 1, 2}, "also once it is folded"


async def test_s15_l14_absent_keys_and_tombstones_stop_claims_until_they_expire(ledger):
    """SEMANTICS.md S15, L14."""
    await ledger.claims.mark_absent(B, ["gone"], ttl_s=60)
    await ledger.claims.add_tombstones(B, ["dead"], ttl_s=60, reason="deleted")
    await ledger.claims.mark_absent(B, ["soon"], ttl_s=0.05)
    assert await claim(ledger, ["gone", "dead", "new"]) == [
        ClaimState.ABSENT,
        ClaimState.TOMBSTONE,
        ClaimState.CLAIMED,
    ]
    assert await claim(ledger, ["gone"], ignore_absent=True) == [ClaimState.CLAIMED]
    assert await ledger.claims.start(B, ["dead"], owner="w") == [RunState.TOMBSTONE]
    assert [row[:2] for row in await ledger.claims.tombstones(B)] == [("dead", "deleted")]
    assert await ledger.claims.remove_tombstones(B, ["dead"]) == 1
    assert await claim(ledger, ["dead"]) == [ClaimState.CLAIMED]
    deadline = time.monotonic() + 5
    while await claim(ledger, ["soon"]) == [ClaimState.ABSENT]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_tombstones_are_listed_in_order_and_those_that_nobody_wants_are_pruned(ledger):
    keys = [f"{kind}/{n:04}" for kind in ("a", "b") for n in range(600)]
    await ledger.claims.add_tombstones(B, keys, ttl_s=60, reason="r")
    await ledger.claims.add_tombstones("other", ["a/0000"], ttl_s=60, reason="r")
    assert [row[0] for row in await ledger.claims.tombstones(B)] == keys
    assert len(await ledger.claims.tombstones(B, limit=7)) == 7
    removed, left = await ledger.claims.prune_tombstones(B, keep=lambda key: key.startswith("b/"))
    assert removed == 600
    assert left >= 600, "a scan may see a key twice"
    assert [row[0] for row in await ledger.claims.tombstones(B)] == keys[600:]
    assert len(await ledger.claims.tombstones("other")) == 1


async def test_more_keys_than_a_chunk_are_answered_in_order(ledger):
    await ledger.claims.mark_absent(B, ["k700"], ttl_s=60)
    states = await claim(ledger, [f"k{n}" for n in range(1200)])
    assert [n for n, state in enumerate(states) if state is not ClaimState.CLAIMED] == [700]


async def test_a_failure_listed_twice_is_one_and_keeps_its_first_time(ledger):
    def failure(at):
        return Failure(
            bucket=B, key="é\n", reason="digest_mismatch", message="m", rule="r", last_at=at, first_at=at
        )

    await ledger.failures.add([failure(10.0)])
    await ledger.failures.add([failure(20.0)])
    assert await ledger.failures.count(B) == 1
    found = await ledger.failures.get(B, "é\n")
    assert (found.first_at, found.last_at) == (10.0, 20.0)
    assert await ledger.failures.waive(B, ["é\n", "unknown"], reason="old logo", by="ann") == 1
    assert await ledger.failures.count(B) == 0
    assert [(waiver.key, waiver.reason, waiver.by) for waiver in await ledger.failures.waivers(B)] == [
        ("é\n", "old logo", "ann")
    ]


async def test_what_is_waived_stays_so_while_it_fails_for_the_same_reason(ledger):
    def failure(key, reason):
        return Failure(bucket=B, key=key, reason=reason, message="m", rule="r")

    failures = ledger.failures
    assert await failures.add([failure("a//b", "key_not_representable"), failure("c", "soft_404")]) == 2
    assert await failures.waive(B, ["a//b"], reason="nobody wants it", by="ann") == 1
    again = [failure("a//b", "key_not_representable"), failure("c", "soft_404"), failure("d", "soft_404")]
    assert await failures.add(again) == 2
    assert {one.key async for one in failures.iterate(B)} == {"c", "d"}
    assert await failures.add([failure("a//b", "origin_denied")]) == 1, "this was not accepted"
    found = await failures.get(B, "a//b")
    assert found is not None
    assert found.reason == "origin_denied"
    assert [waiver.by for waiver in await failures.waivers(B)] == ["ann"]


async def test_a_scan_batch_told_twice_is_counted_once(ledger):
    assert await ledger.outcomes.open_batch("run", 0, size=3, group="img/")
    assert (await ledger.outcomes.totals("run"))["img/"] == {"pending": 3}
    await ledger.outcomes.set_places("run", 0, [(0, "stored", 100), (1, "failed", 0)])
    await ledger.outcomes.set_places("run", 0, [(0, "already_present", 0), (1, "failed", 0)])
    assert (await ledger.outcomes.totals("run"))["img/"] == {
        "stored": 1,
        "failed": 1,
        "pending": 1,
        "bytes": 100,
    }
    await ledger.outcomes.set_places("run", 0, [(1, "stored", 5), (2, "absent_at_origin", 0)])
    want = {"stored": 2, "absent_at_origin": 1, "bytes": 105}
    assert (await ledger.outcomes.totals("run"))["img/"] == want
    await ledger.outcomes.set_places("run", 0, [(2, "stored", 7)])
    assert not await ledger.outcomes.open_batch("run", 0, size=3, group="img/")
    assert (await ledger.outcomes.totals("run"))["img/"] == want
    await ledger.outcomes.forget_scan("run")
    assert await ledger.outcomes.totals("run") == {}


async def test_rule_counters_add_up(ledger):
    await ledger.outcomes.count(B, {("r", "stored"): 2, ("r", "bytes"): 10})
    await ledger.outcomes.count(B, {("r", "stored"): 1})
    assert await ledger.outcomes.counts(B) == {("r", "stored"): 3, ("r", "bytes"): 10}


async def test_a_zero_minute_is_a_record_too(ledger):
    await ledger.minutes.write("front", "a", 100, {"misses": 0})
    assert await ledger.minutes.watchers() == {"front:a": 100}
    assert await ledger.minutes.read("front:a") == {100: {"misses": 0}}
    assert await ledger.minutes.born() == await ledger.minutes.born()


async def test_watchers_that_ended_long_ago_are_forgotten(ledger):
    """Every front that is restarted is another one."""
    now = int(time.time()) // 60
    for name, minute in (("old", now - 9 * 1440), ("young", now - 60), ("killed", now - 9 * 1440)):
        await ledger.minutes.write("front", name, minute, {"misses": 0})
    for name in ("old", "young"):
        await ledger.minutes.retire(f"front:{name}")
    assert set(await ledger.minutes.watchers()) == {"front:young", "front:killed"}, "a gap stays one"
    assert await ledger.minutes.ended() == {"front:young"}


async def test_events_are_remembered_and_deliveries_counted(ledger):
    assert await ledger.seen_events(["x", "y"]) == [False, False]
    await ledger.remember_events(["y"])
    assert await ledger.seen_events(["x", "y"]) == [False, True]
    assert [await ledger.begin_delivery("m", token) for token in ("1", "2", "2", "3")] == [1, 2, 2, 3]
    await ledger.end_delivery("m")
    assert await ledger.begin_delivery("m", "4") == 1


async def test_a_batch_folded_while_totals_are_read_is_pending_and_never_missing(ledger, monkeypatch):
    """Else a scan would look finished, its sum short, for as long as one poll."""
    await ledger.outcomes.open_batch("run", 0, size=2, group="img/")
    await ledger.outcomes.open_batch("run", 1, size=1, group="img/")
    redis, made = ledger.redis, ledger.redis.pipeline
    reads = []

    def pipeline(**options):
        pipe = made(**options)
        execute = pipe.execute

        async def execute_after_a_fold():
            if len(reads) == 1:
                monkeypatch.setattr(redis, "pipeline", made)
                await ledger.outcomes.set_places("run", 0, [(0, "stored", 1), (1, "stored", 1)])
            reads.append(1)
            return await execute()

        pipe.execute = execute_after_a_fold
        return pipe

    monkeypatch.setattr(redis, "pipeline", pipeline)
    assert await ledger.outcomes.totals("run") == {"img/": {"pending": 3}}
    assert await ledger.outcomes.totals("run") == {"img/": {"pending": 1, "stored": 2, "bytes": 2}}


def failed(key, reason, **more):
    return Failure(bucket=B, key=key, reason=reason, message="m", rule="r", **more)


async def test_the_counts_by_reason_follow_every_change_of_the_list(ledger):
    failures = ledger.failures
    odd = '"reason":"soft_404"'
    await failures.add([failed(f"k{n}", "origin_timeout") for n in range(5)] + [failed(odd, "soft_404")])
    await failures.add([failed("k0", "origin_timeout"), failed("k1", "digest_mismatch")])
    assert await failures.reasons(B) == {"origin_timeout": 4, "digest_mismatch": 1, "soft_404": 1}
    assert [row.key async for row in failures.iterate(B, reason="soft_404")] == [odd]
    assert [row async for row in failures.iterate(B, within_s=-1.0)] == [], "nobody waits for longer"
    assert len([row async for row in failures.iterate(B, within_s=60.0)]) == 6
    assert await failures.remove(B, [odd, "k0", "nobody"]) == 2
    assert await failures.reasons(B) == {"origin_timeout": 3, "digest_mismatch": 1}
    assert await failures.waive(B, ["k1"], reason="ours", by="me") == 1
    versions = await failures.versions(B, ["k2", "k3"])
    await failures.add([failed("k3", "origin_timeout", last_at=1.0)])
    assert await failures.remove_unchanged(B, versions) == 1
    assert await failures.reasons(B) == {"origin_timeout": 2}
    await failures.add([failed("b", "write_back", lane="back")])
    assert await failures.remove(B, ["b", "k4"]) == 1
    assert await failures.settle(B, ["k3"], before=time.time() + 9) == 1
    assert await failures.reasons(B) == {"write_back": 1}
    assert await failures.remove_back(B, ["b"]) == 1
    assert await failures.reasons(B) == {}


async def test_a_list_that_was_written_without_counts_is_counted_once(ledger):
    await ledger.failures.add([failed(f"k{n}", "soft_404" if n % 3 else "origin_timeout") for n in range(9)])
    assert not await ledger.failures.recount(B)
    await ledger.redis.delete(f"ferryman:failure-reasons:{B}")
    assert await ledger.failures.recount(B)
    assert await ledger.failures.reasons(B) == {"soft_404": 6, "origin_timeout": 3}
    assert not await ledger.failures.recount(B)
