"""`scan start --reverse`: the way back begun late, and what nobody noted found all the same."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.scan.record.account import account
from scheduler.scan.service import ScanService, scan_options
from support.back import back_rule, until_equal
from workers.errors import ConfigError

pytestmark = pytest.mark.real


@pytest.fixture
def scan():
    """Run a reverse scan to its end: its state, and its account."""

    async def run(front, name="back", **options):
        services = front.services
        service = ScanService(services)
        given = {"bucket": front.bucket, "reverse": True, **options}
        await service.start(name, scan_options(services.settings, name, given))
        async with asyncio.timeout(100):
            assert await service.coordinate(name)
        state = await service.states.get(name)
        return state, (await account(state, services.ledger.outcomes))[""]

    return run


async def test_what_was_written_before_the_way_back_was_switched_on_is_brought(
    start, call, origin, bucket, scan
):
    front = await start()
    store = front.services.store
    for first in range(0, 1205, 30):
        async with asyncio.TaskGroup() as writing:
            for number in range(first, min(first + 30, 1205)):
                body = b"x%d" % number
                writing.create_task(
                    store.put_small(bucket, f"d/{number:04d}", body, content_type="text/plain")
                )
    await call(origin.put_object, Bucket=bucket, Key="d/0007", Body=b"x7")
    await call(origin.put_object, Bucket=bucket, Key="of-the-origin", Body=b"not moved yet")
    state, total = await scan(front)
    assert (state.phase, state.error) == ("done", "")
    assert (total.found, total.present, total.stored, total.failed, total.pending) == (1205, 1, 1204, 0, 0)
    assert total.balanced
    assert state.extra == 1
    assert (await call(origin.get_object, Bucket=bucket, Key="d/1204"))["Body"].read() == b"x1204"
    assert (await call(origin.get_object, Bucket=bucket, Key="of-the-origin"))[
        "Body"
    ].read() == b"not moved yet"
    _, again = await scan(front)
    assert (again.present, again.stored) == (1205, 0)


async def test_what_the_store_has_newer_is_brought_and_what_the_origin_has_newer_is_told(
    start, call, origin, bucket, scan
):
    front = await start()
    store = front.services.store
    await call(origin.put_object, Bucket=bucket, Key="ours", Body=b"old")
    await store.put_small(bucket, "theirs", b"old", content_type="text/plain")
    await asyncio.sleep(1.1)  # times of listings may have seconds only
    await store.put_small(bucket, "ours", b"newer", content_type="text/plain")
    await call(origin.put_object, Bucket=bucket, Key="theirs", Body=b"newer")
    _, total = await scan(front)
    assert (total.found, total.stored, total.differs) == (2, 1, 1)
    assert (await call(origin.get_object, Bucket=bucket, Key="ours"))["Body"].read() == b"newer"
    assert (await call(origin.get_object, Bucket=bucket, Key="theirs"))["Body"].read() == b"newer"


async def test_a_deletion_that_only_its_tombstone_tells_of_is_brought(
    start, client, call, origin, bucket, scan
):
    front = await start(worker=False)
    await call(origin.put_object, Bucket=bucket, Key="gone", Body=b"old")
    await call(client(front).delete_object, Bucket=bucket, Key="gone")
    services = front.services
    await asyncio.sleep(0.3)  # what came of the call is noted
    await services.ledger.back.forget(bucket, ["gone"])  # as if Redis had lost it
    second = await start(namespace=services.settings.broker.namespace)
    _, total = await scan(second)
    assert total.stored == 1
    assert (await call(origin.list_objects_v2, Bucket=bucket))["KeyCount"] == 0


async def test_a_dry_run_counts_and_brings_nothing(start, call, origin, bucket, scan):
    front = await start()
    await front.services.store.put_small(bucket, "a", b"1", content_type="text/plain")
    state, _ = await scan(front, dry_run=True)
    assert sum(counts.sent for counts in state.groups.values()) == 1
    assert (await call(origin.list_objects_v2, Bucket=bucket))["KeyCount"] == 0


async def test_rewritten_keys_meet_their_own(start, call, origin, bucket, scan):
    changes = {
        "when": {"prefix": "img/"},
        "path": {"replace_prefix": {"from": "img/", "to": "pictures/"}, "add_suffix": ".v1"},
    }
    front = await start(changes=changes)
    store = front.services.store
    for key in ("img/a", "img/a-b", "img/b", "other"):
        await store.put_small(bucket, key, b"x", content_type="text/plain")
    await call(origin.put_object, Bucket=bucket, Key="pictures/b.v1", Body=b"x")
    _, total = await scan(front)
    assert (total.found, total.present, total.stored) == (3, 1, 2), total
    listed = await call(origin.list_objects_v2, Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == ["pictures/a-b.v1", "pictures/a.v1", "pictures/b.v1"]


async def test_without_a_rule_that_writes_back_it_fails_and_says_so(start, bucket, scan):
    state, _ = await scan(await start("off"))
    assert state.phase == "failed"
    assert "writes back" in state.error


async def test_an_inventory_is_refused(start, bucket):
    front = await start("off")
    given = {"bucket": bucket, "reverse": True, "inventory": {"manifest": "x"}}
    with pytest.raises(ConfigError, match="the store is the inventory"):
        scan_options(front.services.settings, "n", given)


@pytest.mark.parametrize(
    "given", [{"limit": 5}, {"rate": 10.0}, {"windows": ["22:00-06:00"]}, {"replace": True}]
)
async def test_options_that_do_not_hold_for_the_way_back_are_refused(start, bucket, given):
    front = await start("off")
    with pytest.raises(ConfigError, match=f"{next(iter(given))} does not hold for the way back"):
        scan_options(front.services.settings, "n", {"bucket": bucket, "reverse": True, **given})


async def test_an_origin_that_cannot_be_listed_fails_the_scan_and_deletes_nothing(start, bucket, moto, scan):
    front = await start(rule=back_rule(moto, f"{bucket}-not-there"))
    await front.services.store.put_small(bucket, "a", b"1", content_type="text/plain")
    state, _ = await scan(front)
    assert state.phase == "failed"
    assert "NoSuchBucket" in state.error
    await until_equal(front.services, bucket)
