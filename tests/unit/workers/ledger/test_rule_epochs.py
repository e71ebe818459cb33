"""When a queued job is withdrawn (SEMANTICS.md 2.7, FIELD.md P36)."""

from __future__ import annotations

import fakeredis
import pytest

from workers.ledger.rule_epochs import RuleEpochs, is_withdrawn, rule_epochs_key


@pytest.mark.parametrize(
    ("epochs", "rule", "epoch", "withdrawn"),
    [
        ({}, "images", 3, False),  # never published, or lost
        ({"": "5", "images": "3 f"}, "images", 3, False),
        ({"": "5", "images": "3 f"}, "images", 5, False),
        ({"": "5", "images": "4 f"}, "images", 3, True),  # asks something else since 4
        ({"": "5", "images": "3 f"}, "gone", 5, True),
        ({"": "5"}, "images", 1, True),  # all deleted
        ({"": "5"}, "images", 6, False),  # newer than what was read
        ({"": "5", "images": "4 f"}, "images", 0, False),  # planned while Redis was away
        ({"": "5"}, "images", 0, True),
    ],
)
def test_p36_a_job_is_withdrawn_when_its_rule_is_gone_or_asks_something_else(epochs, rule, epoch, withdrawn):
    assert is_withdrawn(epochs, rule, epoch) is withdrawn


async def test_while_redis_is_away_what_was_read_last_stays_true():
    server = fakeredis.FakeServer()
    redis = fakeredis.FakeAsyncRedis(server=server, decode_responses=True)
    await redis.hset(rule_epochs_key("ferryman", "site"), mapping={"": "5", "images": "4 f"})
    epochs = RuleEpochs(redis, cached_s=0.0)
    assert not await epochs.is_live("site", "images", 3)
    server.connected = False
    assert not await epochs.is_live("site", "images", 3)
    assert await epochs.is_live("site", "images", 4)
    assert await epochs.is_live("never-read", "images", 3)


async def test_a_bucket_is_read_once_while_it_is_cached():
    class Counting:
        reads = 0

        async def hgetall(self, _name):
            self.reads += 1
            return {"": "1", "images": "1 f"}

    redis, now = Counting(), 0.0
    epochs = RuleEpochs(redis, clock=lambda: now)
    for _ in range(100):
        assert await epochs.is_live("site", "images", 1)
    assert redis.reads == 1
    now = 1.0
    assert await epochs.is_live("site", "images", 1)
    assert redis.reads == 2
