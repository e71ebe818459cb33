"""A verification that is cut: the same findings as in one range, each once, and whoever comes next goes on.

The oracle knows of each key what was done to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from scheduler.scan.held import TICK_S
from scheduler.scan.names import FINDINGS, Names
from scheduler.scan.record.state import VERIFICATIONS, ScanStates
from scheduler.scan.verify.cut_verify import CutVerification
from scheduler.scan.verify.verify import VerificationFailed, Verifier
from support.installation import eventually
from support.scan.shards import put
from workers.errors import ConfigError

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

KEYS = [f"d{n % 5}/{n:05}" for n in range(1_500)]
#: What is wrong with some of them: each has one fault, or none.
LOST, LONGER, OTHER_BYTES, NOWHERE = KEYS[10:17], KEYS[400:409], KEYS[800:811], KEYS[1300:1313]


def prepared(fleet, store):
    """A store and an origin that differ in what the oracle knows."""
    put(store, KEYS, b"xx")
    fleet.origin.bodies.update(dict.fromkeys(KEYS, b"xx"))
    put(store, LONGER, b"xxx")
    put(store, OTHER_BYTES, b"yy")
    for key in [*LOST, *NOWHERE]:
        del store.objects[key]
    for key in NOWHERE:
        del fleet.origin.bodies[key]
    put(store, ["zz-extra"], b"xx")


async def scanned(fleet, **options):
    """A scan of all keys with their sizes, which sends nothing."""
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\n" + "".join(f"{key},2\n" for key in KEYS))
    await fleet.scan("s", inventory={"manifest": str(path)}, dry_run=True, **options)
    return await fleet.scans.states.get("s")


async def named(fleet, state):
    return sorted([(one.term, one.key) async for one in Names(fleet.services, state).read(FINDINGS)])


def records(fleet):
    namespace = fleet.settings.broker.namespace
    return ScanStates(fleet.services.redis, namespace=namespace, records=VERIFICATIONS)


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_full_verification_finds_what_was_done_to_each_key_and_names_it_once(
    bytes_fleet, bytes_store, shards
):
    fleet = bytes_fleet
    prepared(fleet, bytes_store)
    state = await scanned(fleet)
    report = await Verifier(fleet.services, state, full=True, shards=shards).run()
    # Of its listing `size`, and of its bytes `bytes`: an object that is longer shows in both.
    expected = [("missing", key) for key in LOST] + [("size", key) for key in LONGER]
    expected += [("bytes", key) for key in [*LONGER, *OTHER_BYTES]]
    expected += [("absent_at_origin", key) for key in NOWHERE]
    assert await named(fleet, state) == sorted(expected)
    assert report.counts == Counter(term for term, _ in expected)
    assert {(one.finding, one.key) for one in report.problems} == set(expected)
    there = len(KEYS) - len(LOST) - len(NOWHERE)
    assert (report.checked, report.compared, report.extra) == (len(KEYS), there, 1)
    assert report.compared_bytes == 2 * there + len(LONGER)
    assert (report.extra_keys, report.ranges, report.unproved) == (("zz-extra",), shards, ())


async def test_the_sample_is_the_same_keys_however_the_keys_are_cut(bytes_fleet, bytes_store):
    fleet = bytes_fleet
    put(bytes_store, KEYS, b"xx")
    fleet.origin.bodies.update(dict.fromkeys(KEYS, b"yy"))
    state = await scanned(fleet, compare=())
    drawn = {}
    for shards in (1, 2, 4):
        report = await Verifier(fleet.services, state, sample=200, seed=11, shards=shards).run()
        assert (report.compared, report.counts, report.ranges) == (200, {"bytes": 200}, shards)
        drawn[shards] = await named(fleet, state)
    assert drawn[1] == drawn[2] == drawn[4]


async def test_nothing_is_left_of_a_verification_but_its_report_and_its_record(bytes_fleet, bytes_store):
    fleet = bytes_fleet
    prepared(fleet, bytes_store)
    state = await scanned(fleet, shards=4)
    await Verifier(fleet.services, state, sample=50).run()
    await nothing_left(fleet, bytes_store, state, "done")


async def nothing_left(fleet, store, state, phase):
    left = [key async for key in fleet.services.redis.scan_iter(match=f"*{state.run}.v*")]
    assert left == []
    assert [key for key in store.objects if f"{state.run}.v" in key] == []
    assert [one.phase for one in await records(fleet).all()] == [phase]


@pytest.mark.parametrize("phase", ["done", "failed"])
async def test_who_waits_for_a_verification_waits_until_it_is_cleared_up(
    bytes_fleet, bytes_store, monkeypatch, phase
):
    fleet = bytes_fleet
    prepared(fleet, bytes_store)
    state = await scanned(fleet, shards=4)
    forget = CutVerification.forget

    async def slowly(self):
        await asyncio.sleep(3 * TICK_S)
        await forget(self)

    monkeypatch.setattr(CutVerification, "forget", slowly)
    if phase == "failed":
        bytes_store.fault = lambda one: (403, "AccessDenied") if one.action == "list" else None
        with pytest.raises(VerificationFailed):
            await Verifier(fleet.services, state, sample=50).run()
        bytes_store.fault = None
    else:
        await Verifier(fleet.services, state, sample=50).run()
    await nothing_left(fleet, bytes_store, state, phase)


async def test_whoever_comes_after_the_verdict_only_clears_up(bytes_fleet, bytes_store, monkeypatch):
    fleet = bytes_fleet
    prepared(fleet, bytes_store)
    state = await scanned(fleet, shards=4)
    forget, begun = CutVerification.forget, asyncio.Event()

    async def never(self):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(CutVerification, "forget", never)
    first = asyncio.create_task(Verifier(fleet.services, state, full=True).run())
    await begun.wait()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    monkeypatch.setattr(CutVerification, "forget", forget)
    asked = len(fleet.origin.asked)
    report = await Verifier(fleet.services, state, full=True).run()
    assert (report.checked, len(fleet.origin.asked)) == (len(KEYS), asked), "nothing is looked at again"
    await nothing_left(fleet, bytes_store, state, "done")


async def test_who_is_broken_off_is_gone_on_with_and_no_finding_comes_twice(
    bytes_fleet, bytes_store, monkeypatch
):
    fleet = bytes_fleet
    prepared(fleet, bytes_store)
    monkeypatch.setattr("scheduler.scan.verify.shard.LOOKS", 20)
    state = await scanned(fleet)
    first = asyncio.create_task(Verifier(fleet.services, state, full=True, shards=4).run())

    async def under_way():
        return any(one.verified and one.verified.compared > 100 for one in await records(fleet).all())

    await eventually(under_way, "some objects are compared")
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    (broken,) = await records(fleet).all()
    asked = len(fleet.origin.asked)
    with_another = Verifier(fleet.services, state, full=True, shards=4)
    report = await with_another.run()
    (ended,) = await records(fleet).all()
    assert ended.run == broken.run, "the same verification, not another one"
    assert report.compared == len(KEYS) - len(LOST) - len(NOWHERE)
    assert len(fleet.origin.asked) - asked < len(KEYS) - 100, "what was compared is not compared again"
    found = await named(fleet, state)
    assert len(found) == len(set(found)) == sum(report.counts.values())
    assert report.counts == {
        "missing": len(LOST), "size": len(LONGER), "bytes": len(LONGER) + len(OTHER_BYTES),
        "absent_at_origin": len(NOWHERE),
    }  # fmt: skip


async def test_the_origin_is_not_asked_for_all_keys_where_nearly_all_are_nowhere(
    bytes_fleet, bytes_store, monkeypatch
):
    fleet = bytes_fleet
    monkeypatch.setattr("scheduler.scan.verify.judging.ENOUGH_SETTLED", 200)
    monkeypatch.setattr("scheduler.scan.verify.shard.LOOKS", 20)
    state = await scanned(fleet)
    report = await Verifier(fleet.services, state, shards=2).run()
    assert len(report.unproved) == 1
    assert report.unproved[0].startswith("stopped: 1500 of 1500 keys are not in the store"), report.unproved
    assert not report.clean
    assert len(fleet.origin.asked) < len(KEYS)


async def test_another_verification_waits_for_the_one_that_runs(bytes_fleet, bytes_store):
    fleet = bytes_fleet
    put(bytes_store, KEYS, b"xx")
    state = await scanned(fleet, shards=3)
    bytes_store.takes_s["list"] = 0.5
    first = asyncio.create_task(Verifier(fleet.services, state).run())
    await eventually(lambda: records(fleet).coordinator("verify:s"), "somebody coordinates it")
    with pytest.raises(ConfigError, match="is being verified in another way by"):
        await Verifier(fleet.services, state, full=True).run()
    bytes_store.takes_s["list"] = 0.0
    assert (await first).checked == len(KEYS)
