"""Shards whose Redis loses commands and answers, whose leases run out under them, and that are split
meanwhile.

The oracle is arithmetic: every key is counted once and is in one batch, whatever was lost, and whoever ran
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict

import orjson
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import FINDINGS, Names
from scheduler.scan.ranges import flaw
from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.record.state import VERIFICATIONS, ScanStates
from scheduler.scan.service import scan_options
from scheduler.scan.shards.lane import ShardLane, queue_shard
from scheduler.scan.verify.cut_verify import CutVerification
from scheduler.scan.verify.report import last_report
from scheduler.scan.verify.verify import RUNS, Verifier
from support.scan.shards import put, shards_of
from workers.plan import decode_batch

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SHARE = 0.02


class Losing:
    """While armed, a share of all commands is lost on its way, or its answer is."""

    def __init__(self, seed, monkeypatch):
        self.draw = random.Random(seed)
        self.armed = False
        self.lost = 0
        for kind, name in ((Redis, "execute_command"), (Pipeline, "execute")):
            monkeypatch.setattr(kind, name, self.wrapped(getattr(kind, name)))

    def wrapped(self, real):
        losing = self

        async def call(self, *arguments, **options):
            throw = losing.draw.random() if losing.armed else 1.0
            if throw < SHARE / 2:
                losing.lost += 1
                raise RedisConnectionError("the command was lost")
            answer = await real(self, *arguments, **options)
            if throw < SHARE:
                losing.lost += 1
                raise RedisConnectionError("the answer was lost")
            return answer

        return call


async def sent_batches(fleet):
    """Batch number -> its keys, of all that is on the cold lane."""
    found = defaultdict(set)
    messages = await fleet.services.queue._redis.hvals(f"{fleet.settings.broker.namespace}:cold.msgs")
    for message in messages:
        batch = decode_batch(orjson.loads(message)["kwargs"]["batch"])
        found[batch.batch].add(tuple(item.key for item in batch.items))
    return found


async def disturbed(fleet, losing, state, work, *, records="scans", ended):
    """Do the work over and over while messages come twice and leases run out, until it has ended."""

    async def again():
        while True:
            with contextlib.suppress(RedisConnectionError):
                await work()
            await asyncio.sleep(0.02)

    async def disturb():
        redis, namespace = fleet.services.redis, fleet.settings.broker.namespace
        while True:
            await asyncio.sleep(0.05)
            with contextlib.suppress(Exception):
                leases = [name async for name in redis.scan_iter(match=f"{namespace}:scan-lease:*")]
                if leases and losing.draw.random() < 0.3:
                    await redis.delete(losing.draw.choice(leases))
                await queue_shard(fleet.services.queue, state, losing.draw.randrange(8), records=records)

    losing.armed = True
    running = [asyncio.create_task(again()), asyncio.create_task(disturb())]
    try:
        async with asyncio.timeout(200):
            while True:
                await asyncio.sleep(0.1)
                with contextlib.suppress(RedisConnectionError):
                    if await ended():
                        break
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        losing.armed = False
    assert losing.lost > 0


@pytest.mark.parametrize("source", ["manifest", "bucket"])
async def test_every_key_is_counted_once_and_sent_in_one_batch_whatever_is_lost(
    bytes_fleet, bytes_store, monkeypatch, source
):
    fleet, store = bytes_fleet, bytes_store
    monkeypatch.setattr("scheduler.scan.sending.COLD_DEPTH", 100_000)
    monkeypatch.setattr("scheduler.scan.compare.compare.WINDOW_MISSING", 60)
    monkeypatch.setattr("scheduler.scan.shards.range_run.LEAST_KEYS", 100)
    monkeypatch.setattr("scheduler.scan.shards.cutting._SPLIT_AFTER_S", 0.0)
    monkeypatch.setattr("scheduler.scan.shards.cutting._AGAIN_S", 0.2)
    # What the run itself writes is in the same double as the source, and below `.ferryman/`.
    keys = [f"k/{'abc'[n % 3]}/{n:05}" for n in range(2_400)]
    if source == "bucket":
        inventory = {"bucket": "other"}
        put(store, keys)
        missing: set[str] = set()
    else:
        inventory = {"manifest": fleet.manifest([*keys, "k/tab\there"])}
        put(store, keys[: len(keys) // 2])
        missing = set(keys[len(keys) // 2 :])
    losing = Losing(7, monkeypatch)
    options = {
        "bucket": fleet.bucket, "inventory": inventory, "prefix": "k/", "shards": 5, "exclude": ["00$"],
        "compare": (),
    }  # fmt: skip
    state = await fleet.scans.start("s", scan_options(fleet.settings, "s", options))

    async def ended():
        now = await fleet.scans.states.get("s")
        assert now is None or now.phase != "failed", now.error
        return now is not None and now.checkpoint is not None and now.checkpoint.compared

    await disturbed(fleet, losing, state, lambda: fleet.scans.coordinate("s"), ended=ended)
    _, shards = await shards_of(fleet)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    report = await fleet.report("s")
    total, excluded = report["total"], [key for key in keys if key.endswith("00")]
    refused = source == "manifest"
    expected_present = len(set(keys) - missing - set(excluded))
    assert (total["found"], total["excluded"]) == (len(keys) + refused, len(excluded)), f"{total}"
    assert (total["present"], total["failed"]) == (expected_present, refused), f"{total}"
    wanted = missing - set(excluded)
    assert total["pending"] == len(wanted)
    batches = await sent_batches(fleet)
    assert all(len(found) == 1 for found in batches.values()), "one number, one batch"
    counted = Counter(key for (found,) in batches.values() for key in found)
    assert counted == dict.fromkeys(wanted, 1)
    state = await fleet.scans.states.get("s")
    named = Counter([one.key async for one in Names(fleet.services, state).read(["excluded"])])
    assert named == dict.fromkeys(excluded, 1)


@pytest.mark.parametrize("source", ["manifest", "bucket"])
async def test_every_finding_of_a_verification_is_counted_and_named_once_whatever_is_lost(
    bytes_fleet, bytes_store, monkeypatch, source
):
    fleet, store = bytes_fleet, bytes_store
    monkeypatch.setattr("scheduler.scan.verify.shard.PART_KEYS", 60)
    monkeypatch.setattr("scheduler.scan.verify.shard.LOOKS", 30)
    monkeypatch.setattr("scheduler.scan.shards.range_run.LEAST_KEYS", 100)
    monkeypatch.setattr("scheduler.scan.shards.cutting._SPLIT_AFTER_S", 0.0)
    monkeypatch.setattr("scheduler.scan.shards.cutting._AGAIN_S", 0.2)
    keys = [f"k/{'abc'[n % 3]}/{n:05}" for n in range(900)]
    put(store, keys, b"xx")
    fleet.origin.bodies.update(dict.fromkeys(keys, b"xx"))
    if source == "bucket":
        # What is verified lists itself: nothing is missing, and no size is another one.
        inventory, lost, nowhere, longer = {"bucket": "other"}, [], [], []
        fleet.origin.bodies.update(dict.fromkeys(keys[300:340], b"yy"))
        other_bytes = keys[300:340]
    else:
        path = fleet.tmp_path / "sizes.csv"
        path.write_text("key,size\n" + "".join(f"{key},2\n" for key in keys))
        inventory, lost, nowhere, longer = {"manifest": str(path)}, keys[5:35], keys[600:625], keys[100:130]
        other_bytes = keys[400:420]
    for key in nowhere:
        del store.objects[key], fleet.origin.bodies[key]
    await fleet.scan("s", inventory=inventory, prefix="k/", dry_run=True, shards=3, compare=())
    put(store, longer, b"xxx")
    put(store, other_bytes if source == "manifest" else [], b"yy")
    for key in lost:
        del store.objects[key]
    scan = await fleet.scans.states.get("s")
    losing = Losing(7, monkeypatch)
    verifier = Verifier(fleet.services, scan, full=True, shards=5)
    state = await verifier.requested()
    records = ScanStates(
        fleet.services.redis, namespace=fleet.settings.broker.namespace, records=VERIFICATIONS
    )

    async def work():
        now = await records.get(state.name)
        if now is not None and now.phase in ACTIVE:
            await CutVerification(fleet.services, records, now, clock=asyncio.get_running_loop().time).run()

    async def ended():
        now = await records.get(state.name)
        assert now is None or now.phase != "failed", now.error
        return now is not None and now.phase == "done"

    lane = ShardLane(fleet.services, fleet.settings.data_dir / "scans", runs=RUNS)
    async with lane.working():
        await disturbed(fleet, losing, state, work, records=VERIFICATIONS, ended=ended)
    report = await last_report(fleet.services, "s")
    expected = {
        "missing": lost,
        "size": longer,
        "bytes": [*longer, *other_bytes],
        "absent_at_origin": nowhere,
    }
    found = defaultdict(list)
    async for one in Names(fleet.services, scan).read(FINDINGS):
        found[one.term].append(one.key)
    assert {term: sorted(names) for term, names in found.items()} == {
        term: sorted(names) for term, names in expected.items() if names
    }
    assert report.counts == {term: len(names) for term, names in expected.items() if names}
    assert (report.checked, report.compared) == (len(keys), len(keys) - len(lost) - len(nowhere))
