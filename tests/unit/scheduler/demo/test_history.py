"""The demo's history: a made-up site that cools down as one does, said to be made up, and no minute twice."""

from __future__ import annotations

from fakeredis import FakeAsyncRedis

from scheduler.demo import history
from scheduler.dispatch.dependency import fitted
from workers.ledger.history import KEPT_MINUTES, History

BEGAN = 1_795_238_532.0


def test_misses_fall_objects_grow_and_an_end_is_seen():
    told = list(history.samples(BEGAN))
    assert [one.stored for one in told] == sorted(one.stored for one in told)
    assert 0.5 * history.OBJECTS < told[-1].stored < history.OBJECTS
    hours: dict[int, int] = {}
    for one in told:
        hours[one.at // 3600] = hours.get(one.at // 3600, 0) + one.origin
    counts = list(hours.values())
    assert sum(counts[:24]) > 4 * sum(counts[-24:])
    decay = fitted([(hour * 3600, number) for hour, number in hours.items()], now=BEGAN)
    assert BEGAN < decay.ends_at < BEGAN + 60 * 86_400
    assert abs(sum(one.origin for one in told) - told[-1].stored) < 0.02 * told[-1].stored


def test_it_ends_before_the_demo_begins_and_the_last_day_has_every_minute():
    told = list(history.samples(BEGAN))
    assert told[-1].at == int(BEGAN) // 60 * 60 - 60
    assert [one.at for one in told[-history.MINUTES :]] == [
        told[-1].at - 60 * back for back in range(history.MINUTES - 1, -1, -1)
    ]
    assert len({one.at for one in told}) == len(told)


def test_the_page_says_what_is_made_up():
    text = history.notice(BEGAN)
    assert text.startswith("Demo.")
    assert "made-up" in text
    assert "05:22 UTC" in text
    assert len(text) <= 300


async def test_it_is_written_by_the_code_that_writes_real_minutes_and_kept_as_long():
    redis = FakeAsyncRedis(decode_responses=True)
    ledger = History(redis, namespace="ferryman")
    await history.write(ledger, BEGAN)
    hours = await ledger.hours(since=0)
    assert sum(one.hits for one in hours) == sum(one.hits for one in history.samples(BEGAN))
    minutes = await ledger.minutes(since=0)
    assert history.MINUTES <= len(minutes) <= KEPT_MINUTES
    await redis.aclose()
