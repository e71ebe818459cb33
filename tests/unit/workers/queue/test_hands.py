"""The hands of a process: how many at once, in which order, and what an interruption ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from workers.queue.hands import Hands


def nothing():
    pass


async def all_of(share):
    found = []
    while share.pending:
        found += await share.done(10)
    return found + await share.done(10)


async def under_way(share, number):
    async with asyncio.timeout(10):
        while share.running < number:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0)


async def test_there_are_never_more_at_work_than_the_limit_over_all_shares():
    hands, now, most = Hands(3), 0, 0

    async def work(job):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return -job

    shares = [hands.work_off(range(at, at + 10), work, begin=nothing) for at in (0, 10, 20)]
    found = [await all_of(share) for share in shares]
    assert [sorted(pairs) for pairs in found] == [
        [(job, -job) for job in range(at, at + 10)] for at in (0, 10, 20)
    ]
    assert most == 3
    assert hands._hands == {}


async def test_jobs_are_begun_in_the_order_in_which_they_came():
    hands, begun = Hands(2), []

    async def work(job):
        begun.append(job)
        await asyncio.sleep(0)

    shares = [hands.work_off([f"{name}{at}" for at in range(5)], work, begin=nothing) for name in "ab"]
    for share in shares:
        await all_of(share)
    assert begun == [f"{name}{at}" for name in "ab" for at in range(5)]


async def test_a_hand_begins_a_share_each_time_it_comes_to_it_and_not_with_every_job():
    hands, begun = Hands(1), []

    async def work(job):
        begun.append(job)
        await asyncio.sleep(0)

    shares = [
        hands.work_off([1, 2], work, begin=lambda: begun.append("one")),
        hands.work_off([3, 4], work, begin=lambda: begun.append("two")),
    ]
    for share in shares:
        await all_of(share)
    assert begun == ["one", 1, 2, "two", 3, 4]


async def test_what_is_done_is_told_after_the_given_time_while_others_are_under_way():
    hands, gate = Hands(2), asyncio.Event()

    async def work(job):
        if job == "slow":
            await gate.wait()
        return job.upper()

    share = hands.work_off(["quick", "slow"], work, begin=nothing)
    assert await share.done(0.05) == [("quick", "QUICK")]
    assert share.pending
    gate.set()
    assert await share.done(10) == [("slow", "SLOW")]
    assert not share.pending


async def test_an_interruption_ends_what_is_being_done_and_the_hands_go_on():
    hands, seen = Hands(2), []

    async def work(job):
        try:
            if job < 2:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(job)
        return job

    share = hands.work_off(range(6), work, begin=nothing)
    await under_way(share, 2)
    hands.interrupt()
    assert sorted(await all_of(share)) == [(job, job) for job in range(6)]
    assert sorted(seen) == [0, 1]


async def test_a_withdrawn_share_is_ended_and_others_are_not_touched():
    hands, cancelled, gate = Hands(2), [], asyncio.Event()

    async def work(job):
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cancelled.append(job)
            raise
        return job

    mine = hands.work_off(["a", "b", "c"], work, begin=nothing)
    other = hands.work_off(["d", "e"], work, begin=nothing)
    await under_way(mine, 2)
    await hands.withdraw(mine)
    assert not mine.pending
    gate.set()
    assert sorted(await all_of(other)) == [("d", "d"), ("e", "e")]
    assert cancelled == ["a", "b"]


async def test_a_job_that_clings_on_is_cancelled_again_until_it_ends():
    hands, times = Hands(1), 0

    async def work(_):
        nonlocal times
        while times < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                times += 1

    share = hands.work_off([1], work, begin=nothing)
    await under_way(share, 1)
    began = time.monotonic()
    await asyncio.wait_for(hands.withdraw(share), 10)
    assert times == 2
    assert time.monotonic() - began >= 0.15


async def test_what_a_job_raises_reaches_who_waits_for_its_share_and_nobody_else():
    hands = Hands(1)

    async def work(job):
        if job == "bad":
            raise ZeroDivisionError
        return job

    bad = hands.work_off(["bad"], work, begin=nothing)
    good = hands.work_off(["good"], work, begin=nothing)
    with pytest.raises(ZeroDivisionError):
        await bad.done(10)
    assert await good.done(10) == [("good", "good")]


async def test_no_jobs_need_no_hand():
    share = Hands(1).work_off([], nothing, begin=nothing)
    assert not share.pending
    assert await share.done(10) == []


async def test_what_is_done_while_its_caller_is_busy_is_still_to_be_told():
    """Whoever records the first results meanwhile must not take the share for over, and lose the others."""
    hands, gate = Hands(2), asyncio.Event()

    async def work(job):
        if job == "later":
            await gate.wait()
        return job

    share = hands.work_off(["first", "later"], work, begin=nothing)
    assert await share.done(0.01) == [("first", "first")]
    gate.set()
    while share.running:  # noqa: ASYNC110 -- it has no event
        await asyncio.sleep(0)
    assert share.pending
    assert await share.done(10) == [("later", "later")]
    assert not share.pending


async def test_what_is_raised_while_its_caller_is_busy_is_still_to_be_told():
    hands = Hands(1)

    async def work(job):
        raise LookupError(job)

    share = hands.work_off(["bad"], work, begin=nothing)
    while share.jobs or share.running:  # noqa: ASYNC110 -- it has no event
        await asyncio.sleep(0)
    assert share.pending
    with pytest.raises(LookupError, match="bad"):
        await share.done(10)
