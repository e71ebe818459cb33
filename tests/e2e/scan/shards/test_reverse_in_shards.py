"""A scan the other way round that is cut: every key counted once and brought, whoever dies meanwhile.

Store and origin are servers of this process, and what was done to each key is the oracle.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from e2e.scan.conftest import running_fleet
from e2e.scan.shards.test_shards_under_faults import Losing, disturbed
from scheduler.config.run_settings import write_run_settings
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import Names
from scheduler.scan.ranges import before, flaw
from scheduler.scan.service import scan_options
from scheduler.scan.verify.verify import Verifier
from support.back import back_rule, draining, origin_sections
from support.installation import eventually
from support.scan.shards import found_in, shards_of
from support.store.fake_s3 import FakeS3, running_fake_s3
from workers.errors import ConfigError

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

KEYS = [f"d{n % 7}/{n:05}" for n in range(1_500)]
#: What the origin has of them, and what of these is another object than ours; then keys that only it has, of
#: which some were deleted through a gateway.
THERE, OTHER = KEYS[::2], KEYS[100:220:2]
STRANGE, DELETED = [f"d3/x{n:04}" for n in range(300)], [f"d3/x{n:04}" for n in range(0, 300, 9)]


@pytest.fixture
async def old():
    """The origin: a bucket in this process."""
    async with running_fake_s3(FakeS3()) as fake:
        yield fake


@pytest.fixture
async def fleet(valkey_url, bytes_store, bucket, origin, old, tmp_path):
    server = SimpleNamespace(
        endpoint=bytes_store.endpoint, access_key_id="key", secret_access_key="secret-of-it"
    )
    rules = [
        {**back_rule(old.endpoint, bucket, prefix="d3/x"), "name": "second"},
        back_rule(old.endpoint, bucket),
    ]
    async with running_fleet(
        valkey_url, server, bucket, origin, tmp_path, worker=False, rules=rules, sections=origin_sections()
    ) as made:
        yield made


async def prepared(fleet, store, old):
    for key in KEYS:
        store.place(key, b"x" + key.encode())
    for key in THERE:
        old.place(key, b"x" + key.encode())
    for key in OTHER:
        old.place(key, b"another")
    for key in STRANGE:
        old.place(key, b"not moved yet")
    await fleet.services.ledger.claims.add_tombstones(fleet.bucket, DELETED, ttl_s=600, reason="deleted")


def written(old, method="PUT"):
    return Counter(one.key for one in old.requests if one.method == method and one.key)


def counted(report):
    return {name: report[name] for name in ("total", "prefixes", "read", "extra", "would_fetch")}


def check_origin(old):
    """Exactly what the origin lacked was written, what was deleted is gone, all else is untouched."""
    lacked = set(KEYS) - set(THERE)
    assert set(old.user_keys()) == (set(KEYS) | set(STRANGE)) - set(DELETED)
    assert all(old.objects[key].body == b"x" + key.encode() for key in lacked)
    assert all(old.objects[key].body == b"another" for key in OTHER)
    assert set(written(old)) == lacked


async def test_a_dry_run_counts_the_same_in_shards_as_in_one_and_brings_nothing(fleet, bytes_store, old):
    await prepared(fleet, bytes_store, old)
    one = await fleet.scan("one", reverse=True, dry_run=True)
    cut = await fleet.scan("s", reverse=True, dry_run=True, shards=6)
    assert (cut["phase"], cut["error"]) == ("done", "")
    assert counted(cut) == counted(one)
    total = cut["total"]
    wanted = len(KEYS) - len(THERE) + len(DELETED)
    assert (total["found"], total["present"]) == (len(KEYS) + len(DELETED), len(THERE) - len(OTHER))
    assert (total["differs"], cut["would_fetch"], cut["extra"]) == (
        len(OTHER), wanted, len(STRANGE) - len(DELETED),
    )  # fmt: skip
    state, shards = await shards_of(fleet)
    assert (len(shards), state.source_listed) == (6, False)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    assert min(map(found_in, shards)) > 100
    assert (written(old), written(old, "DELETE")) == ({}, {})
    assert list((fleet.settings.data_dir / "scans").iterdir()) == [], "both listings are removed"
    with pytest.raises(ConfigError, match="ferryman back verify"):
        await Verifier(fleet.services, state).run()


async def test_compare_says_in_shards_as_in_one_what_makes_another_object(fleet, bytes_store, old):
    for number in range(600):
        bytes_store.place(f"k{number:03}", b"ours-1")
        old.place(f"k{number:03}", b"longer-1" if number % 3 == 0 else b"theirs")
    by_compare = {}
    for compare in (None, ("size",), ("size", "digest"), ("mtime",)):
        more = {} if compare is None else {"compare": compare}
        one = await fleet.scan("one", reverse=True, dry_run=True, **more)
        cut = await fleet.scan("s", reverse=True, dry_run=True, shards=3, **more)
        assert counted(cut) == counted(one)
        assert cut["shards"]["total"] == 3
        by_compare[compare] = cut["total"]["differs"]
    assert by_compare == {None: 600, ("size",): 200, ("size", "digest"): 600, ("mtime",): 0}


async def test_what_the_origin_lacks_is_brought_once_and_what_was_deleted_is_deleted(fleet, bytes_store, old):
    await prepared(fleet, bytes_store, old)
    async with draining(fleet.services):
        report = await fleet.scan("s", reverse=True, shards=5)
        total = report["total"]
        assert (report["phase"], total["pending"], total["failed"]) == ("done", 0, 0), report
        assert total["stored"] == len(KEYS) - len(THERE) + len(DELETED)
        check_origin(old)
        assert max(written(old).values()) == 1
        again = await fleet.scan("s", reverse=True, shards=5)
    assert (again["total"]["present"], again["total"]["stored"]) == (len(KEYS) - len(OTHER), 0)


async def test_an_origin_that_lists_by_bytes_is_listed_range_by_range(fleet, bytes_store, old, monkeypatch):
    monkeypatch.setattr("scheduler.scan.reverse.origin_listing.known_by_bytes", lambda host: True)
    await prepared(fleet, bytes_store, old)
    one = await fleet.scan("one", reverse=True, dry_run=True)
    cut = await fleet.scan("s", reverse=True, dry_run=True, shards=4)
    assert counted(cut) == counted(one)
    state, shards = await shards_of(fleet)
    assert (state.source_listed, state.inventory_file, len(shards)) == (True, "", 4)
    behind = {one.query["start-after"] for one in old.requests if "start-after" in one.query}
    assert {before(one.shard.range.begin) for one in shards if one.shard.range.begin} <= behind


async def test_a_range_that_is_slow_is_split_while_it_runs_and_no_key_is_counted_twice(
    fleet, bytes_store, old, monkeypatch
):
    monkeypatch.setattr("scheduler.scan.reverse.shard.STEP", 100)
    monkeypatch.setattr("scheduler.scan.shards.probing._LEAST", 100)
    monkeypatch.setattr("scheduler.scan.shards.range_run.LEAST_KEYS", 100)
    monkeypatch.setattr("scheduler.scan.shards.cutting._SPLIT_AFTER_S", 0.0)
    await prepared(fleet, bytes_store, old)
    bytes_store.takes_s["list"] = 0.2
    old.takes_s["put"] = 0.1
    async with draining(fleet.services):
        report = await fleet.scan("s", reverse=True, shards=2)
    assert report["phase"] == "done", report
    total = report["total"]
    assert (total["found"], total["pending"]) == (len(KEYS) + len(DELETED), 0)
    assert (report["read"], report["extra"]) == (len(KEYS), len(STRANGE) - len(DELETED))
    assert total["stored"] == len(KEYS) - len(THERE) + len(DELETED)
    _, shards = await shards_of(fleet)
    assert len(shards) > 2
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    check_origin(old)


async def test_every_key_is_counted_once_whatever_redis_loses(fleet, bytes_store, old, monkeypatch):
    monkeypatch.setattr("scheduler.scan.reverse.shard.STEP", 100)
    monkeypatch.setattr("scheduler.scan.shards.probing._LEAST", 100)
    monkeypatch.setattr("scheduler.scan.shards.range_run.LEAST_KEYS", 100)
    monkeypatch.setattr("scheduler.scan.shards.cutting._SPLIT_AFTER_S", 0.0)
    monkeypatch.setattr("scheduler.scan.shards.cutting._AGAIN_S", 0.2)
    await prepared(fleet, bytes_store, old)
    given = {"bucket": fleet.bucket, "reverse": True, "shards": 4, "dry_run": True}
    state = await fleet.scans.start("s", scan_options(fleet.settings, "s", given))

    async def ended():
        now = await fleet.scans.states.get("s")
        assert now is None or now.phase != "failed", now.error
        return now is not None and now.checkpoint is not None and now.checkpoint.compared

    losing = Losing(11, monkeypatch)
    await disturbed(fleet, losing, state, lambda: fleet.scans.coordinate("s"), ended=ended)
    _, shards = await shards_of(fleet)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    report = await fleet.report("s")
    total = report["total"]
    assert (total["found"], total["present"], total["differs"]) == (
        len(KEYS) + len(DELETED), len(THERE) - len(OTHER), len(OTHER),
    )  # fmt: skip
    assert report["would_fetch"] == len(KEYS) - len(THERE) + len(DELETED)
    assert (report["read"], report["extra"]) == (len(KEYS), len(STRANGE) - len(DELETED))
    named = Counter([one.key async for one in Names(fleet.services, state).read(["differs"])])
    assert named == dict.fromkeys(OTHER, 1)


@pytest.mark.slow
async def test_kill_9_of_processes_that_run_shards_and_of_the_coordinator_counts_every_key_once(
    fleet, bytes_store, old
):
    await prepared(fleet, bytes_store, old)
    bytes_store.takes_s["list"] = 0.5
    old.takes_s["put"] = 0.02
    # What the killed processes had taken of the way back is none of theirs: this process brings it.
    config = write_run_settings(fleet.settings, "test")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}

    def process(*more):
        command = [sys.executable, "-P", "-m", "scheduler.cli", "scan", "serve", "--config", str(config)]
        return subprocess.Popen([*command, *more], env=environment, stderr=subprocess.DEVNULL)

    given = {"bucket": fleet.bucket, "reverse": True, "shards": 3}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))
    running = [process(), process("--only-shards", "--threads", "2")]

    async def brought(least):
        return len(written(old)) >= least

    async def ended():
        return (await fleet.scans.states.get("s")).phase in {"done", "failed"}

    try:
        async with draining(fleet.services):
            await eventually(lambda: brought(50), "some keys are brought", timeout_s=60)
            for one in running:
                one.kill()
                await asyncio.to_thread(one.wait)
            running = [process(), process("--only-shards", "--threads", "2")]
            await eventually(ended, "the scan ends", timeout_s=120)
    finally:
        for one in running:
            one.kill()
            await asyncio.to_thread(one.wait)
    report = await fleet.report("s")
    total = report["total"]
    assert (report["phase"], report["error"]) == ("done", "")
    assert (total["found"], total["present"], total["differs"]) == (
        len(KEYS) + len(DELETED), len(THERE) - len(OTHER), len(OTHER),
    )  # fmt: skip
    assert (total["stored"], total["failed"], total["pending"]) == (
        len(KEYS) - len(THERE) + len(DELETED), 0, 0,
    )  # fmt: skip
    assert report["extra"] == len(STRANGE) - len(DELETED)
    _, shards = await shards_of(fleet)
    assert flaw([one.shard.range for one in shards], Collation.BYTES) == ""
    check_origin(old)
