"""Deletes and writes against pulls, by two fronts and a worker: nothing comes back or is overwritten."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import pytest

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.planning import plan
from support.gateway import until
from workers.ledger.rule_epochs import RuleEpochs
from workers.plan import Batch, encode_batch
from workers.queue.leases import LeaseKeeper
from workers.queue.runner import BatchRunner
from workers.transfer import Mover

pytestmark = pytest.mark.real
ORIGIN = b"of the origin" * 200
MINE = b"of the client"
#: Races of each kind; 250 of four kinds are the 1,000 of the slow run.
RACES = [pytest.param(25, id="few"), pytest.param(250, id="many", marks=pytest.mark.slow)]


@pytest.fixture
async def two_fronts(start, chaos):
    namespace = f"t{uuid.uuid4().hex[:8]}"
    rule = {
        "name": "r",
        "type": "mirror",
        "request": {"protocol": "http"},
        "origin": {"hosts": [{"host": chaos.host}]},
    }
    return await start(rule, namespace=namespace), await start(rule, namespace=namespace)


@pytest.fixture
def worker(two_fronts):
    services = two_fronts[0].services
    return BatchRunner(
        ledger=services.ledger,
        queue=services.queue,
        mover=Mover(
            fetcher=services.fetcher,
            store=services.store,
            now=partial(datetime.now, UTC),
            max_object_bytes=services.settings.limits.max_object_bytes,
        ),
        epochs=RuleEpochs(services.redis, namespace=services.settings.broker.namespace),
        leases=LeaseKeeper(services.ledger.claims, owner="worker-1"),
        limits=services.settings.limits,
        observer=SimpleNamespace(finished=lambda *_: None, failed=lambda *_, **__: None),
    )


async def later(act, rng):
    await asyncio.sleep(rng.random() * 0.02)
    return await act


async def settled(*fronts):
    for front in fronts:
        await front.idle()


def batch(front, key):
    ruleset = front.services.rules.snapshot(front.bucket)
    facts = RequestFacts(key=key)
    fetch, item = plan(match(ruleset, facts), ruleset, front.bucket, facts, kind="event")
    return encode_batch(Batch(plan=fetch, items=(item,), id=uuid.uuid4().hex, missing_at=time.time()))


async def races(n, race):
    """`n` races, eight at a time, each over a key of its own."""
    gate = asyncio.Semaphore(8)

    async def one(at):
        async with gate:
            await race(f"k{at}")

    async with asyncio.TaskGroup() as group:
        for at in range(n):
            group.create_task(one(at))


async def is_gone(front, other, key):
    await settled(front, other)
    assert await front.stored(key) is None, key
    for one in (front, other):
        assert (await one.get(f"/{key}")).status == 404, key


@pytest.mark.parametrize("n", RACES)
async def test_a_delete_beats_a_pull_that_is_under_way(two_fronts, caller, chaos, n):
    front, other = two_fronts
    rng, s3 = random.Random(1), caller(other)

    async def race(key):
        chaos.put(f"/{key}", ORIGIN)
        reads = (later(front.get(f"/{key}"), rng), later(other.get(f"/{key}"), rng))
        *_, deleted = await asyncio.gather(*reads, later(s3.call("DELETE", f"/{other.bucket}/{key}"), rng))
        assert deleted.status == 204
        await is_gone(front, other, key)

    await races(n, race)


@pytest.mark.parametrize("n", RACES)
async def test_a_write_is_never_overwritten_by_a_pull(two_fronts, caller, chaos, n):
    front, other = two_fronts
    rng, s3 = random.Random(2), caller(other)

    async def race(key):
        chaos.put(f"/{key}", ORIGIN)
        reads = (later(front.get(f"/{key}"), rng), later(other.get(f"/{key}"), rng))
        *_, written = await asyncio.gather(
            *reads, later(s3.call("PUT", f"/{other.bucket}/{key}", body=MINE), rng)
        )
        assert written.status == 200
        await settled(front, other)
        assert await front.stored(key) == MINE, key

    await races(n, race)


@pytest.mark.parametrize("n", RACES)
async def test_a_delete_beats_a_queued_event(two_fronts, worker, caller, chaos, n):
    front, other = two_fronts
    rng, s3 = random.Random(3), caller(other)
    await until(lambda: asyncio.sleep(0, front.services.rules.snapshot(front.bucket) is not None))

    async def race(key):
        chaos.put(f"/{key}", ORIGIN)
        _, deleted = await asyncio.gather(
            later(worker.run(batch(front, key)), rng),
            later(s3.call("DELETE", f"/{other.bucket}/{key}"), rng),
        )
        assert deleted.status == 204
        await worker.run(batch(front, key))  # delivered again, or another event
        await is_gone(front, other, key)

    await races(n, race)


@pytest.mark.parametrize("n", RACES)
async def test_after_a_delete_and_a_write_at_once_the_origins_object_never_shows(
    two_fronts, worker, caller, chaos, n
):
    front, other = two_fronts
    rng, s3 = random.Random(4), caller(other)

    async def race(key):
        chaos.put(f"/{key}", ORIGIN)
        path = f"/{other.bucket}/{key}"
        await s3.call("DELETE", path)
        await asyncio.gather(
            later(front.get(f"/{key}"), rng),
            later(worker.run(batch(front, key)), rng),
            later(s3.call("DELETE", path), rng),
            later(s3.call("PUT", path, body=MINE), rng),
        )
        await settled(front, other)
        found = await front.stored(key)
        assert found in {None, MINE}, key
        reply = await front.get(f"/{key}")
        assert (reply.status, reply.body if found else b"") == ((200, MINE) if found else (404, b"")), key

    await races(n, race)
