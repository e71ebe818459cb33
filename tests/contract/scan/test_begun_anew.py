"""A new run of a scan whose Redis refuses a command: the run before keeps its account, or it is over."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ResponseError

from scheduler.config.settings import Settings
from scheduler.scan.inventory.opening import version_of
from scheduler.scan.record.state import Counts, ScanOptions, ScanState
from scheduler.scan.service import ScanService
from workers.errors import BrokerUnavailable
from workers.ledger.ledger import Ledger

KEYS = 35


class Refusing(FakeAsyncRedis):
    """Once armed, it refuses one command: the one of that number."""

    left = -1

    async def execute_command(self, *arguments, **options):
        if self.left == 0:
            self.left = -1
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
        self.left -= self.left > 0
        return await super().execute_command(*arguments, **options)


@pytest.fixture
def service():
    settings = Settings.model_validate({})
    redis = Refusing(decode_responses=True)
    namespace = settings.broker.namespace
    ledger = Ledger(redis, namespace=namespace)
    return ScanService(SimpleNamespace(settings=settings, redis=redis, ledger=ledger))


async def done_run(service, name="site"):
    """A run that moved all its keys."""
    options = ScanOptions(bucket="site", inventory={"file": "keys.txt"})
    run = f"{name}-000000000000"
    groups = {"": Counts(found=KEYS, sent=KEYS)}
    state = ScanState(name=name, run=run, options=options, requested_at=1.0, phase="done", groups=groups)
    await service.states.put(state)
    outcomes = service._services.ledger.outcomes
    await outcomes.open_batch(run, 0, size=KEYS, group="")
    await outcomes.set_places(run, 0, [(at, "stored", 10) for at in range(KEYS)])
    return state


async def test_a_new_run_that_redis_refuses_leaves_the_account_of_the_one_before(service):
    redis = service._services.redis
    refused = 0
    while True:
        await redis.flushall()
        old = await done_run(service)
        redis.left = refused
        try:
            await service.start("site", old.options)
        except BrokerUnavailable:
            pass
        else:
            redis.left = -1
            break
        now = await service.states.get("site")
        total = (await service.report(now))["total"]
        if now.run == old.run:
            assert (total["stored"], total["pending"]) == (KEYS, 0), f"command {refused} was refused"
        else:
            assert (now.phase, total["found"]) == ("requested", 0)
        refused += 1
    assert refused > 4
    assert (await service.states.get("site")).run != old.run


@pytest.mark.parametrize(("phase", "written", "anew"), [
    ("failed", False, False), ("failed", True, True), ("move", True, False),
])  # fmt: skip
async def test_a_failed_run_goes_on_unless_the_file_of_its_inventory_was_written_anew(
    service, tmp_path, phase, written, anew
):
    """Else it says that it is done over a list that is not the one that was given."""
    manifest = tmp_path / "keys.txt"
    manifest.write_text("a\nb\n")
    options = ScanOptions(bucket="site", inventory={"manifest": str(manifest)})
    read = version_of(options.inventory)
    assert read
    old = ScanState(
        name="site", run="site-000000000000", options=options, requested_at=1.0, phase=phase,
        inventory_complete=True, inventory_version=read,
    )  # fmt: skip
    await service.states.put(old)
    if written:
        beside = tmp_path / "new.txt"
        beside.write_text("a\nc\n")
        os.utime(beside, ns=(0, manifest.stat().st_mtime_ns + 1))
        beside.replace(manifest)
    state = await service.start("site", options)
    assert (state.run != old.run) is anew


def test_what_is_no_file_here_has_no_version(tmp_path):
    for inventory in (
        {"manifest": "https://x.example/keys.txt"}, {"manifest": str(tmp_path / "gone")},
        {"manifest": "keys.txt"}, {"directory": str(tmp_path)}, {"bucket": {"host": "a"}},
        {"manifest": "/a\0b"},
    ):  # fmt: skip
        assert version_of(inventory) == "", inventory


async def test_a_run_that_is_replaced_while_it_is_read_is_read_as_the_new_one(service):
    old = await done_run(service)
    new = await service.start("site", old.options)
    assert (await service.report(old))["run"] == new.run
