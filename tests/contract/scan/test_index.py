"""Which scans are under way: right for records of every version, and bounded whatever the history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.scan.record.scan_index import WrongCursor
from scheduler.scan.record.state import ScanOptions, ScanState, ScanStates, dump

OPTIONS = ScanOptions(bucket="b", inventory={"manifest": "m"})


def record(name, phase="done", at=0.0):
    return ScanState(name=name, run=f"{name}-r", options=OPTIONS, phase=phase, requested_at=at)


def names(found):
    return [one.name for one in found]


async def test_what_is_under_way_follows_every_way_in_which_a_record_is_written(redis):
    states = ScanStates(redis, namespace="ns")
    await states.put(record("a", "requested", at=1.0))
    await states.put(record("b", "done", at=2.0))
    assert names(await states.live()) == ["a"]
    assert await states.acquire("a", "me")
    assert await states.put_held(record("a", "move", at=1.0), "me")
    assert names(await states.live()) == ["a"]
    assert not await states.put_held(record("a", at=1.0), "somebody else")
    assert names(await states.live()) == ["a"]
    assert await states.checkpoint(record("a", "failed", at=1.0), [], "me")
    assert await states.live() == []
    assert names(await states.recent(1)) == ["b"]
    await states.release("a", "me")
    assert await states.put_held(record("a", "requested", at=1.0), "")
    assert (names(await states.live()), names(await states.recent(1))) == (["a"], ["a"])


async def test_records_of_a_version_without_an_index_are_found_at_first_and_again_later(redis):
    states = ScanStates(redis, namespace="ns")
    for one in (record("old"), record("runs", "compare")):
        await redis.hset("ns:scans", one.name, dump(one))
    assert names(await states.live()) == ["runs"]
    assert names(await states.recent()) == ["old", "runs"]
    late = record("late", "inventory")
    await redis.hset("ns:scans", late.name, dump(late))
    assert 0 < await redis.ttl("ns:scans-index:whole") <= 600
    await redis.delete("ns:scans-index:whole")  # as it goes by itself
    assert names(await states.live()) == ["late", "runs"]


async def test_what_such_a_version_has_ended_is_not_taken_up(redis):
    states = ScanStates(redis, namespace="ns")
    await states.put(record("s", "compare"))
    await redis.hset("ns:scans", "s", dump(record("s", "done")))
    assert await states.live() == []


async def test_a_record_that_changes_while_all_are_looked_at_keeps_what_it_says_of_itself(redis, monkeypatch):
    states = ScanStates(redis, namespace="ns")
    await redis.hset("ns:scans", "s", dump(record("s")))
    real = redis.hscan

    async def changed_behind_it(*arguments, **more):
        found = await real(*arguments, **more)
        await states.put(record("s", "requested", at=5.0))
        return found

    monkeypatch.setattr(redis, "hscan", changed_behind_it)
    assert names(await states.live()) == ["s"]


async def test_ended_scans_are_neither_read_for_what_runs_nor_for_the_page(redis, monkeypatch):
    states = ScanStates(redis, namespace="ns")
    for number in range(600):
        one = record(f"s{number:03}", at=float(number))
        await redis.hset("ns:scans", one.name, dump(one))
    await states.put(replace(record("runs", "move"), requested_at=3.5))
    await states.live()
    asked = []
    real = redis.hmget

    async def hmget(key, fields):
        asked.append(len(fields))
        return await real(key, fields)

    monkeypatch.setattr(redis, "hmget", hmget)
    assert names(await states.live()) == ["runs"]
    shown = await states.recent(20)
    assert names(shown) == ["runs", *[f"s{number}" for number in range(581, 600)]]
    assert asked == [1, 20]


async def test_pages_give_every_scan_once_those_under_way_first_then_the_newest(redis):
    states = ScanStates(redis, namespace="ns")
    for number in range(25):
        await states.put(record(f"s{number:02}", at=float(number // 2)))  # two of each second
    await states.put(record("runs", "move", at=3.0))
    await states.put(record("waits", "requested", at=2.0))
    cursor, found, pages = "", [], 0
    while pages == 0 or cursor:
        page = await states.page(4, cursor)
        assert page.total == 27
        cursor, pages = page.cursor, pages + 1
        found += names(page.scans)
    assert pages == 7
    assert sorted(found[:2]) == ["runs", "waits"]
    assert found[2:] == [f"s{number:02}" for number in range(24, -1, -1)]


async def test_a_scan_that_begins_anew_between_two_pages_hides_none_of_those_behind_it(redis):
    states = ScanStates(redis, namespace="ns")
    for number in range(6):
        await states.put(record(f"s{number}", at=float(number)))
    page = await states.page(3)
    assert names(page.scans) == ["s5", "s4", "s3"]
    await states.put(record("s3", "requested", at=9.0))
    await states.put(record("new", at=10.0))
    following = await states.page(3, page.cursor)
    assert (names(following.scans), following.cursor) == (["s2", "s1", "s0"], "")


@pytest.mark.parametrize("cursor", ["x", "1.0", "nan:s", ":s", "one:s"])
async def test_a_cursor_that_no_page_gave_is_refused(redis, cursor):
    with pytest.raises(WrongCursor, match="one that a page of scans gave"):
        await ScanStates(redis, namespace="ns").page(3, cursor)


async def test_who_only_shows_scans_reads_no_more_of_them_than_he_shows(redis, monkeypatch):
    states = ScanStates(redis, namespace="ns")
    for number in range(50):
        await states.put(record(f"s{number:02}", at=float(number)))
    looks = []
    real = redis.hscan

    async def hscan(*arguments, **more):
        looks.append(arguments)
        return await real(*arguments, **more)

    monkeypatch.setattr(redis, "hscan", hscan)
    assert len(await states.recent(5)) == 5
    assert names((await states.page(2)).scans) == ["s49", "s48"]
    assert looks == [], "nobody wrote a record without the index"
    await states.live()
    assert looks, "who runs scans looks at all of them, every ten minutes"
    looks.clear()
    await states.live()
    assert looks == []
    await redis.hset("ns:scans", "late", dump(record("late", at=99.0)))
    assert names((await states.page(1)).scans) == ["late"]


async def test_records_of_shards_have_no_index(redis):
    from scheduler.scan.shards.records import ShardStates

    states = ShardStates(redis, namespace="ns", run="r")
    await redis.hset("ns:scan:r:shard-records", "r/0", dump(record("r/0", "compare")))  # as a cut does
    assert await states.put_held(replace(record("r/0", "compare")), "")
    assert await redis.exists("ns:scan:r:shard-records-index") == 0
