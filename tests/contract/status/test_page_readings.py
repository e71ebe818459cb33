"""What the page is drawn of: first-byte times of all fronts, samples of minutes, one reading for all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError

from scheduler.config.settings import Settings
from scheduler.front import stats as stats_module
from scheduler.front.admin.dashboard import board as board_module
from scheduler.front.admin.dashboard.board import FRESH_S, Board
from scheduler.front.admin.dashboard.samples import Samples
from scheduler.front.stats import GatewayStats
from scheduler.status import QueueStatus, Status
from workers.ledger.history import KEPT_DETAILS, History, Sample
from workers.ledger.ledger import Ledger
from workers.origin.control.latency import BOUNDS_S, sparse_percentile_s

NOW = 1_795_238_520


async def answered(stats, what, *seconds):
    """Each in a task of its own, as requests are."""

    async def one(first_byte_s):
        stats.answered(what, "site", "r")
        stats.request_done(200, first_byte_s=first_byte_s)

    for first_byte_s in seconds:
        await asyncio.create_task(one(first_byte_s))


async def test_first_bytes_of_hits_and_misses_of_all_fronts_are_one_histogram(ledger, monkeypatch):
    monkeypatch.setattr(stats_module.time, "time", lambda: NOW)
    fronts = [GatewayStats(ledger, instance=name) for name in ("a", "b")]
    await answered(fronts[0], "hit", *[0.002] * 98)
    await answered(fronts[1], "hit", 3.0, 4.0)
    await answered(fronts[1], "origin", 0.5)
    await answered(fronts[1], "absent", 9.0)
    for front in fronts:
        await front._flush()
        await front._flush()
    merged = await ledger.first_bytes.of(NOW // 60)
    assert {kind: sum(counts.values()) for kind, counts in merged.items()} == {"hit": 100, "miss": 1}
    assert 0.002 <= sparse_percentile_s(merged["hit"], 0.5) <= 0.0025
    assert 3.0 <= sparse_percentile_s(merged["hit"], 0.99) <= 3.75
    assert 0.5 <= sparse_percentile_s(merged["miss"], 0.5) <= 0.625
    assert await ledger.first_bytes.of(NOW // 60 - 1) == {}


def test_first_bytes_longer_than_every_bound_count_as_the_longest():
    assert sparse_percentile_s({str(len(BOUNDS_S)): 3}, 0.5) == BOUNDS_S[-1]
    assert sparse_percentile_s({}, 0.5) is None


async def test_an_hour_is_the_sum_of_its_minutes_and_details_are_kept_for_hours_not_days(ledger):
    history = History(ledger.redis, namespace=ledger.namespace)
    hour = NOW // 3600 * 3600
    counts = {"hit": {"3": 2}, "miss": {"20": 1}}
    for minute in range(2):
        sample = Sample(at=hour + 60 * minute, hits=5, first_bytes=counts, origins={"o": (1, 0.1, None)})
        await history.write(sample)
    assert [one.hits for one in await history.hours(since=hour)] == [10]
    first, _ = await history.minutes(since=hour)
    assert (first.first_bytes, first.origins) == (counts, {"o": [1, 0.1, None]})
    [[again], []] = await history.some(minutes=[hour // 60, 7])
    assert again == first
    await history.write(Sample(at=hour + KEPT_DETAILS * 60, hits=1))
    assert [bool(one.first_bytes) for one in await history.minutes(since=hour)] == [False, True, False]


async def test_a_sample_of_an_older_or_newer_version_is_read(ledger):
    history = History(ledger.redis, namespace=ledger.namespace)
    await ledger.redis.hset("ferryman:history:minutes", str(NOW // 60), f'{{"at": {NOW}, "later": 1}}')
    assert [(one.at, one.hits) for one in await history.minutes(since=0)] == [(NOW, 0)]


async def test_what_nobody_wrote_since_is_the_same_tuple_so_that_nothing_is_drawn_again(ledger):
    history = History(ledger.redis, namespace=ledger.namespace)
    await history.write(Sample(at=NOW - 60, hits=3))
    samples = Samples(history)
    before, after = await samples.read(NOW), await samples.read(NOW + 2)
    assert before is after
    await history.write(Sample(at=NOW, hits=4))
    minutes, _ = await samples.read(NOW + 62)
    assert [one.hits for one in minutes] == [3, 4]


async def test_after_the_first_reading_only_the_last_samples_are_read(ledger, monkeypatch):
    history = History(ledger.redis, namespace=ledger.namespace)
    first = NOW - 100 * 60
    for minute in range(100):
        await history.write(Sample(at=first + 60 * minute, hits=minute))
    samples = Samples(history)
    minutes, _ = await samples.read(NOW)
    assert [one.hits for one in minutes] == list(range(100))
    whole = []
    monkeypatch.setattr(history, "minutes", whole.append)
    for minute in range(100, 109):  # nobody looked meanwhile
        await history.write(Sample(at=first + 60 * minute, hits=minute))
    minutes, hours = await samples.read(NOW + 9 * 60)
    assert whole == []
    assert [one.hits for one in minutes] == list(range(109))
    assert sum(one.hits for one in hours) == sum(range(109))


class Sources:
    """What a board reads, over one fake server."""

    def __init__(self, server: FakeServer) -> None:
        self.settings = Settings.model_validate({"admin": {"notice": "Staging"}})
        self.redis = FakeAsyncRedis(server=server, decode_responses=True)
        self.ledger = Ledger(self.redis)


@pytest.fixture
async def shared(monkeypatch):
    """A board whose status is counted and whose clock is ours."""
    server = FakeServer()
    sources = Sources(server)
    clock = SimpleNamespace(now=float(NOW), reads=0, away=False, server=server, sources=sources)

    async def collect(_sources, *, reasons=True):
        del reasons
        clock.reads += 1
        await asyncio.sleep(0)
        problems = {"queues": "away", "workers": "away"} if clock.away else {}
        lanes = (
            ()
            if clock.away
            else (QueueStatus(lane="hot", waiting=4, running=0, delayed=1, oldest_age_s=7.0),)
        )
        return Status(at=clock.now, workers=0 if clock.away else 3, queues=lanes, problems=problems)

    monkeypatch.setattr(board_module, "collect", collect)
    async with Board(sources, clock=lambda: clock.now) as board:
        clock.board = board
        yield clock
    await sources.redis.aclose()


async def test_a_hundred_who_look_at_once_cost_one_reading(shared):
    readings = await asyncio.gather(*(shared.board.read() for _ in range(100)))
    assert shared.reads == 1
    assert readings[0].glance.notice == "Staging"
    assert len({id(one) for one in readings}) == 1
    shared.now += FRESH_S / 2
    await shared.board.read()
    assert shared.reads == 1
    shared.now += FRESH_S
    await shared.board.read()
    assert shared.reads == 2


async def test_redis_away_leaves_the_last_known_state_with_its_time_and_comes_back(shared):
    await shared.board.read()
    shared.away, shared.server.connected = True, False
    shared.now += 60
    reading = await shared.board.read()
    assert reading.stale
    assert (reading.status.at, reading.status.workers) == (NOW, 3)
    shared.away, shared.server.connected = False, True
    shared.now += 60
    reading = await shared.board.read()
    assert (reading.stale, reading.status.at) == ("", NOW + 120)


async def test_the_minute_that_is_written_has_latencies_and_queues(shared):
    minute = NOW // 60 - 1
    await shared.sources.ledger.first_bytes.write("a", minute, {("hit", 4): 2})
    assert await shared.board.sample(minute)
    assert not await shared.board.sample(minute), "one process of the fleet writes a minute"
    [written] = await History(shared.sources.redis, namespace="ferryman").minutes(since=0)
    assert written.first_bytes == {"hit": {"4": 2}}
    assert (written.waiting, written.oldest_s) == ({"hot": 5}, {"hot": 7.0})


async def test_a_ledger_that_is_away_costs_no_client_its_answer_and_the_times_are_written_later(monkeypatch):
    monkeypatch.setattr(stats_module.time, "time", lambda: NOW)
    server = FakeServer()
    redis = FakeAsyncRedis(server=server, decode_responses=True)
    ledger = Ledger(redis)
    stats = GatewayStats(ledger, instance="a")
    await answered(stats, "hit", 0.01)
    server.connected = False
    with pytest.raises(RedisConnectionError):
        await redis.ping()
    await stats._flush()
    monkeypatch.setattr(stats_module.time, "time", lambda: NOW + 60)
    await stats._flush()
    await answered(stats, "hit", 0.01, 0.01)
    server.connected = True
    await stats._flush()
    assert [sum((await ledger.first_bytes.of(NOW // 60 + at))["hit"].values()) for at in (0, 1)] == [1, 2]
    await redis.aclose()
