"""Who looks at an installation pays for what is shown, not for everything that ever happened to it."""

from __future__ import annotations

import pytest

from scheduler.dispatch.failures import MOST_SORTED, Selection, shown
from scheduler.runtime import open_services
from support.gateway import gateway_settings
from support.history import REASONS, counted, fill, looks, miss

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

TOKEN = "t" * 32
#: Of those that cost most: misses, scans, and failures.
SHORT, LONG = (range(200), 220, 1000), (range(200, 6000), 1500, MOST_SORTED + 2000)
#: Looks that end by a clock: what they read depends on the machine.
BY_CLOCK = {"page, failures of a rare reason", "page, one bucket"}
#: Each reads the whole first screen, too, which is counted once.
ALIKE = {"page, scans", "page, one scan", "page, buckets", "page, gate", "/v1/gate"}


def settings(seaweed, valkey_url, bucket, data_dir, namespace):
    rules = [{"origins": ["http://o.example"]}]
    return gateway_settings(
        seaweed, valkey_url, bucket, rules, data_dir=data_dir, namespace=namespace, admin={"token": TOKEN}
    )


@pytest.fixture
async def past(valkey_url, seaweed, bucket, tmp_path):
    async with open_services(settings(seaweed, valkey_url, bucket, tmp_path, "long")) as services:
        await services.redis.flushall()
        yield services


async def test_a_long_past_costs_nobody_who_looks(past, bucket):
    found = []
    for misses, scans, failures in (SHORT, LONG):
        await miss(past, bucket, misses)
        await fill(past, bucket, failures=failures, scans=scans)
        cost = {}
        for name, look in looks(past, TOKEN, bucket=bucket).items():
            if name not in BY_CLOCK | ALIKE:
                cost[name] = await counted(past, look)
        found.append(cost)
    short, long = found
    assert {"ferryman status", "/metrics", "page", "gate", "/v1/failures?limit=100"} <= set(short)
    for name, cost in long.items():
        # Twice, and what runs beside it in a slow look: the past is six to thirty times as long.
        assert cost.commands <= 2 * short[name].commands + 200, name
        assert cost.answered_bytes <= 2 * short[name].answered_bytes + (256 << 10), name


async def test_of_very_many_failures_some_are_shown_and_all_are_counted(past, bucket):
    many = MOST_SORTED + 1000
    await fill(past, bucket, failures=many, scans=0)
    ledger = past.ledger
    some = await shown(ledger, [bucket], Selection(), most=7)
    assert (some.reasons.total(), len(some.rows)) == (many, 7)
    assert list(some.rows) == sorted(some.rows, key=lambda row: row.key)
    rare = await shown(ledger, [bucket], Selection(reasons=frozenset({REASONS[-1]})), most=100)
    assert [row.key for row in rare.rows] == [
        f"p{n % 100}/some/folder/{n:08}.jpg" for n in range(0, many, 1000)
    ]
    assert dict(rare.reasons) == {REASONS[-1]: many // 1000}
    below = await shown(ledger, [bucket], Selection(prefix="p7/", rule="rule-1"), most=3)
    assert [row.key[-12:] for row in below.rows] == ["00000007.jpg", "00000107.jpg", "00000207.jpg"]
    assert below.reasons.total() == many // 100
    none = await shown(ledger, [bucket], Selection(scan="another"), most=3)
    assert (none.rows, none.reasons.total()) == ((), 0)
    assert (await shown(ledger, [bucket], Selection(), most=0)).rows == ()


@pytest.mark.parametrize("prefix", ["a*", "a?", "a[b", "a]", "a\\", "a^", "a-", "a[b-c]"])
async def test_a_prefix_of_failures_means_itself_whatever_signs_are_in_it(past, bucket, prefix):
    from workers.ledger.failures import Failure

    own = [
        Failure(bucket=bucket, key=f"{prefix}{end}", reason="x", message="", rule="r") for end in ("", "/1")
    ]
    others = [
        Failure(bucket=bucket, key=key, reason="x", message="", rule="r") for key in ("ab", "abc", "b", "ac")
    ]
    await past.ledger.failures.add([*own, *others])
    found = [row.key async for row in past.ledger.failures.iterate(bucket, prefix=prefix)]
    assert sorted(found) == [prefix, f"{prefix}/1"]
