"""Redis stands still, or dies and comes back, while a scan the other way round brings keys.

The scan's processes and Redis are real ones. Store and origin are servers of this process, and the oracle: at
the end the origin has exactly what it lacked, is without what was deleted, and nothing else was touched; and
the account says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from redis.exceptions import RedisError

from e2e.scan.conftest import running_fleet
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.names import Names
from scheduler.scan.ranges import flaw
from scheduler.scan.service import scan_options
from support.back import back_rule, draining, origin_sections
from support.installation import eventually
from support.scan.processes import outage, running_processes, server_of
from support.scan.shards import shards_of
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.valkey import running_valkey

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

#: Two steps of a shard, when there are three of them.
KEYS = [f"d{n % 9}/{n:05}" for n in range(9_000)]
#: What the origin lacks of them, and what of the rest is another object there.
LACKED, OTHER = KEYS[1::3], KEYS[2:300:3]
#: Keys that only the origin has; of these, what was deleted through a gateway.
STRANGE, DELETED = [f"d3/x{n:04}" for n in range(300)], [f"d3/x{n:04}" for n in range(0, 300, 9)]


class Server:
    """A Redis that forgets nothing, and can be killed and begun again."""

    def __init__(self, directory):
        self._directory = directory
        self._stack = contextlib.ExitStack()
        directory.mkdir()
        self.url = self._started(None)

    def _started(self, port):
        return self._stack.enter_context(
            running_valkey(port=port, directory=self._directory, appendfsync="always")
        )

    async def killed_for(self, fleet, seconds):
        os.kill(await server_of(fleet), signal.SIGKILL)
        await asyncio.sleep(seconds)
        assert self._started(urlsplit(self.url).port) == self.url

    def end(self):
        self._stack.close()


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path / "redis")
    yield found
    found.end()


@pytest.fixture
async def old():
    """The origin."""
    async with running_fake_s3(FakeS3()) as fake:
        yield fake


@pytest.fixture
async def fleet(server, bytes_store, bucket, origin, old, tmp_path):
    store = SimpleNamespace(
        endpoint=bytes_store.endpoint, access_key_id="key", secret_access_key="secret-of-it"
    )
    rules = [back_rule(old.endpoint, bucket)]
    async with running_fleet(
        server.url, store, bucket, origin, tmp_path, worker=False, rules=rules, sections=origin_sections()
    ) as made:
        yield made


def written(old):
    return {one.key for one in old.requests if one.method == "PUT" and one.key}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("how", ["stands still", "dies"])
async def test_an_outage_while_keys_are_brought_back_loses_none_and_counts_each_once(
    fleet, bytes_store, old, server, monkeypatch, how, shards
):
    # What a worker had when it lost Redis is looked at again after its lease.
    monkeypatch.setattr("workers.ledger.back.LEASE_MS", 4_000)
    for key in KEYS:
        bytes_store.place(key, b"x" + key.encode())
    for key in set(KEYS) - set(LACKED):
        old.place(key, b"x" + key.encode())
    for key in OTHER:
        old.place(key, b"another")
    for key in STRANGE:
        old.place(key, b"not moved yet")
    await fleet.services.ledger.claims.add_tombstones(fleet.bucket, DELETED, ttl_s=3_600, reason="deleted")
    old.takes_s["put"] = 0.05
    given = {"bucket": fleet.bucket, "reverse": True, "shards": shards}
    await fleet.scans.start("s", scan_options(fleet.settings, "s", given))

    async def brought(least):
        return len(written(old)) >= least

    async def ended():
        with contextlib.suppress(RedisError):  # connections of before the outage
            return (await fleet.scans.states.get("s")).phase in {"done", "failed"}

    async with running_processes(fleet.settings) as processes, draining(fleet.services):
        first = processes.start("scan", "serve")
        processes.start("scan", "serve")
        await eventually(lambda: brought(200), "some keys are brought", timeout_s=60)
        if how == "dies":
            await server.killed_for(fleet, 5)
        else:
            await outage(fleet, processes, killed=[first])
        after = len(written(old))
        await eventually(ended, "the scan ends", timeout_s=180)
    report = await fleet.report("s")
    total = report["total"]
    assert (report["phase"], report["error"]) == ("done", "")
    assert after < len(LACKED), "there was something left to be brought"
    assert (total["failed"], total["pending"], total["differs"]) == (0, 0, len(OTHER)), report
    gone = total["found"] - len(KEYS)
    settled = (total["stored"], total["present"])
    if shards == 1:
        # It began anew, and found what had been brought and deleted by then.
        assert 0 <= gone <= len(DELETED)
        assert sum(settled) == len(KEYS) - len(OTHER) + gone
    else:
        assert gone == len(DELETED)
        assert settled == (len(LACKED) + len(DELETED), len(KEYS) - len(LACKED) - len(OTHER))
    state, ranges = await shards_of(fleet)
    assert shards == 1 or flaw([one.shard.range for one in ranges], Collation.BYTES) == ""
    assert report["read"] == len(KEYS)
    assert report["extra"] == len(STRANGE) - len(DELETED)
    named = sorted([one.key async for one in Names(fleet.services, state).read(["differs"])])
    assert named == sorted(OTHER)
    assert set(old.user_keys()) == (set(KEYS) | set(STRANGE)) - set(DELETED)
    assert all(old.objects[key].body == b"x" + key.encode() for key in LACKED)
    assert all(old.objects[key].body == b"another" for key in OTHER)
    assert written(old) == set(LACKED)
