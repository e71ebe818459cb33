"""The records of the way back, over the fake and the real Redis: nothing is lost, the last write wins."""

from __future__ import annotations

import pytest

from workers.ledger.back import DELETED, NOTHING, TOLD, UNKNOWN, WRITTEN, Change, Finished, Intent
from workers.ledger.claims import LATE_MS

B = "site"


@pytest.fixture
def back(ledger):
    return ledger.back


async def write(back, *keys, what=WRITTEN, token="1", front="f1"):
    await begin(back, *keys, token=token, front=front)
    await end(back, *keys, what=what, token=token, front=front)


async def begin(back, *keys, token="1", front="f1"):
    await back.begin([Intent(bucket=B, key=key, token=token) for key in keys], front=front)


async def end(back, *keys, what=WRITTEN, token="1", front="f1"):
    await back.end([Change(bucket=B, key=key, token=token, what=what) for key in keys], front=front)


async def take(back, owner="w1", limit=10):
    return await back.take(B, owner=owner, limit=limit)


async def pending(back):
    return (await back.state(B)).pending


async def front_dies(back, front="f1"):
    await back._redis.delete(f"ferryman:back:front:{front}")


async def time_passes(back):
    """Everything that waits is due, and leases have ended."""
    for key in await back._redis.zrange(f"ferryman:back:due:{B}", 0, -1):
        await back._redis.zadd(f"ferryman:back:due:{B}", {key: 1})


async def test_a_write_is_due_once_however_often_it_came_and_gone_when_it_was_brought(back):
    for token in "123":
        await write(back, "a", token=token)
    assert await back.buckets() == [B]
    (taken,) = await take(back)
    assert (taken.key, taken.tries, taken.was_deleted, taken.was_written) == ("a", 0, False, True)
    assert await take(back, "w2") == []
    assert await back.finish(B, [taken], owner="w1") == [Finished.DONE]
    assert await pending(back) == 0
    assert await back.buckets() == []


async def test_a_write_that_comes_while_the_key_is_brought_is_brought_as_well(back):
    await write(back, "a")
    (taken,) = await take(back)
    await write(back, "a", what=DELETED, token="2")
    assert await back.finish(B, [taken], owner="w1") == [Finished.AGAIN]
    (again,) = await take(back, "w2")
    assert again.was_deleted
    assert await back.finish(B, [again], owner="w2") == [Finished.DONE]
    assert await pending(back) == 0


async def test_an_intent_is_counted_and_not_touched_until_it_is_known_what_came_of_it(back):
    await begin(back, "a", front="f1", token="1")
    assert await pending(back) == 1
    assert (await back.state(B)).lag_s == 0.0
    await time_passes(back)
    assert await take(back) == []
    await end(back, "a", what=NOTHING)
    assert await pending(back) == 0


async def test_a_front_that_died_between_the_stores_answer_and_its_note_leaves_a_key_that_is_looked_at(back):
    await begin(back, "a", front="f1", token="1")
    await front_dies(back)
    await time_passes(back)
    (taken,) = await take(back)
    assert taken.was_written
    assert await back.finish(B, [taken], owner="w1") == [Finished.DONE]
    assert await pending(back) == 0


async def test_what_the_store_never_answered_is_looked_at_at_once_and_again_when_it_must_be_over(back):
    """The store may still be at it: seed 31001 had a write that came about after the first look."""
    await write(back, "a", what=UNKNOWN)
    (taken,) = await take(back)
    assert taken.was_written
    assert await back.finish(B, [taken], owner="w1") == [Finished.DONE]
    assert await pending(back) == 1, "it may still come about"
    await time_passes(back)
    assert await take(back) == []
    assert LATE_MS - 10_000 < await back._redis.pttl("ferryman:back:front:f1-1") <= LATE_MS
    await front_dies(back, "f1-1")
    await time_passes(back)
    (again,) = await take(back)
    assert again.was_written
    assert await back.finish(B, [again], owner="w1") == [Finished.DONE]
    assert await pending(back) == 0
    assert await back.buckets() == []


async def test_a_key_is_not_done_while_another_write_of_it_is_under_way(back):
    await write(back, "a")
    await begin(back, "a", front="f2", token="7")
    (taken,) = await take(back)
    assert await back.finish(B, [taken], owner="w1") == [Finished.DONE]
    assert await pending(back) == 1, "the write under way was forgotten"
    await time_passes(back)
    assert await take(back) == [], "nothing new was brought once more"
    await front_dies(back, "f2")
    await time_passes(back)
    (taken,) = await take(back)
    assert await back.finish(B, [taken], owner="w1") == [Finished.DONE]
    assert await pending(back) == 0


async def test_who_lost_his_lease_is_told(back):
    await write(back, "a")
    (first,) = await take(back, "w1")
    await time_passes(back)
    (second,) = await take(back, "w2")
    assert await back.finish(B, [first], owner="w1") == [Finished.LOST]
    assert await back.finish(B, [second], owner="w2") == [Finished.DONE]
    assert await back.finish(B, [first], owner="w1") == [Finished.LOST]


async def test_a_number_is_never_given_twice(back):
    """A record that ended and began anew must not pass for the one that somebody still holds."""
    await write(back, "a")
    (first,) = await take(back, "w1")
    await back.finish(B, [first], owner="w1")
    await write(back, "a")
    (second,) = await take(back, "w1")
    assert second.seq != first.seq


async def test_a_renewed_lease_is_kept(back):
    await write(back, "a")
    (taken,) = await take(back, "w1")
    await time_passes(back)
    assert await back.renew(B, "a", owner="w1")
    assert await take(back, "w2") == []
    await time_passes(back)
    assert not await back.renew(B, "a", owner="w2")
    assert [one.key for one in await take(back, "w2")] == ["a"]
    assert await back.finish(B, [taken], owner="w1") == [Finished.LOST]


async def test_what_is_put_off_waits_and_what_is_listed_waits_until_somebody_writes_again(back):
    await write(back, "a", "b")
    first, second = await take(back)
    await back.put_off(first, owner="w1", delay_s=60.0, tries=1)
    await back.put_off(second, owner="w1", delay_s=None, tries=5)
    assert await take(back) == []
    state = await back.state(B)
    assert (state.pending, state.failed) == (2, 1)
    await time_passes(back)
    assert [(one.key, one.tries) for one in await take(back)] == [(first.key, 1)]
    await write(back, second.key, token="9")
    (again,) = await take(back)
    assert (again.key, again.tries, again.was_listed) == (second.key, 0, True)


async def test_a_write_during_a_try_that_fails_is_due_at_once(back):
    await write(back, "a")
    (taken,) = await take(back)
    await write(back, "a", token="2")
    await back.put_off(taken, owner="w1", delay_s=600.0, tries=3)
    (again,) = await take(back)
    assert again.tries == 0


async def test_the_lag_is_that_of_the_oldest_write_and_nothing_without_one(back):
    assert (await back.state(B)).lag_s == 0.0
    await write(back, "a")
    await back._redis.zincrby(f"ferryman:back:since:{B}", -90_000, "a")
    await write(back, "a", "b", token="2")
    assert 90.0 <= (await back.state(B)).lag_s < 120.0


async def test_one_key_is_taken_at_once_and_a_held_one_is_said_to_be_held(back):
    await write(back, "a")
    held = await back.take_one(B, "a", owner="w1")
    assert held
    assert await back.take_one(B, "a", owner="w2") is False
    await back.finish(B, [held], owner="w1")
    assert await back.take_one(B, "a", owner="w2") is None


async def test_a_key_that_an_event_names_is_told_apart_from_a_write_through_the_gateway(back):
    await back.note(B, ["a"], TOLD)
    (taken,) = await take(back)
    assert not taken.was_written
    await write(back, "a")
    await back.finish(B, [taken], owner="w1")
    (again,) = await take(back)
    assert again.was_written


async def test_forgotten_keys_are_gone_and_all_pending_ones_are_named(back):
    await write(back, *(f"k{at}" for at in range(1200)))
    assert {key async for key in back.keys(B)} == {f"k{at}" for at in range(1200)}
    assert await back.forget(B, [f"k{at}" for at in range(1200)]) == 1200
    assert await pending(back) == 0
    assert await back.buckets() == []


async def test_redis_that_lost_an_intent_learns_of_the_write_by_its_end(back):
    await begin(back, "a", front="f1", token="1")
    await back._redis.flushdb()
    await end(back, "a", what=WRITTEN)
    assert [one.key for one in await take(back)] == ["a"]
