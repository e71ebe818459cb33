"""Absence and completeness are said only when they are shown."""

from __future__ import annotations

import time

import pytest

from scheduler.config.settings import ScanSettings
from scheduler.scan.gate.finalize import finalize
from scheduler.scan.gate.gate import look
from scheduler.scan.verify.verify import Verifier
from support.installation import _Handler
from workers.errors import ConfigError
from workers.ledger.failures import Failure

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


async def verified(fleet, **options):
    return await Verifier(fleet.services, await fleet.scans.states.get("s"), seed=1, **options).run()


async def shut_by(fleet):
    verdict = await look(fleet.services, await fleet.scans.states.get("s"), quiet_s=0.5)
    return {one.name: one for one in verdict.conditions if not one.ok and not one.warning}


@pytest.fixture
def answers(monkeypatch):
    """Path -> status (or one for HEAD, one for GET) that the origin answers instead."""
    statuses = {}
    real = _Handler.do_GET

    def answer(self, which):
        status = statuses.get(self.path.lstrip("/"))
        status = status[which] if isinstance(status, tuple) else status
        if status in {None, 200}:
            real(self)
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    monkeypatch.setattr(_Handler, "do_GET", lambda self: answer(self, 1))
    monkeypatch.setattr(_Handler, "do_HEAD", lambda self: answer(self, 0), raising=False)
    return statuses


async def test_absent_is_only_what_a_get_says_is_not_there(fleet, answers):
    said = {"head.txt": (404, 200), "moved.txt": 300, "same.txt": 304, "gone.txt": 404, "denied.txt": 403}
    await fleet.scan("s", said)  # nothing is there yet: all are absent
    fleet.origin.bodies.update(dict.fromkeys(said, b"x"))
    answers.update(said)
    report = await verified(fleet)
    found = {one.key: one.finding for one in report.problems}
    assert found == {key: "absent_at_origin" if key == "gone.txt" else "missing" for key in said}
    details = {one.key: one.detail for one in report.problems}
    assert "300" in details["moved.txt"]
    assert "304" in details["same.txt"]


async def test_a_key_that_was_stored_and_is_gone_is_missing_whatever_the_origin_says(fleet):
    fleet.origin.bodies.update({f"d/{n}": b"x" for n in range(4)})
    await fleet.scan("s", [*fleet.origin.bodies, "old/never.txt"])
    for key in ("d/1", "d/2"):
        await fleet.services.store.delete(fleet.bucket, key)
    fleet.origin.bodies.clear()
    report = await verified(fleet)
    found = {one.key: one.finding for one in report.problems}
    assert found == {"d/1": "missing", "d/2": "missing", "old/never.txt": "absent_at_origin"}
    assert "verify_clean" in await shut_by(fleet)


async def test_bytes_that_were_not_read_on_both_sides_are_not_counted_and_none_is_not_clean(fleet, answers):
    fleet.origin.bodies.update({f"{n}.txt": b"x" for n in range(4)})
    await fleet.scan("s", fleet.origin.bodies)
    answers.update({"0.txt": 404, "1.txt": 302})
    report = await verified(fleet, full=True)
    assert (report.compared, report.counts) == (2, {"absent_at_origin": 1, "unreadable": 1})
    fleet.origin.bodies.clear()
    answers.clear()
    for options in ({"full": True}, {"sample": 2}):
        report = await verified(fleet, **options)
        assert (report.clean, report.faults, report.compared) == (False, 0, 0)
        assert report.unproved == ("no object was compared byte by byte",)
    assert "no object was compared" in (await shut_by(fleet))["verify_clean"].evidence
    assert (await verified(fleet)).clean, "by listing nothing is claimed of bytes"


async def test_an_empty_inventory_opens_no_gate_until_somebody_says_that_it_is_meant(fleet):
    await fleet.scan("s", [])
    report = await verified(fleet)
    assert (report.clean, report.checked) == (False, 0)
    await fleet.services.redis.set("ferryman:born", repr(time.time() - 3600))
    shut = await shut_by(fleet)
    assert {"scan_complete", "nothing_missing", "verify_clean"} <= set(shut)
    assert "allow-empty" in shut["scan_complete"].remedy
    await fleet.scan("s", [], allow_empty=True)
    assert (await verified(fleet)).clean
    assert not {"scan_complete", "nothing_missing", "verify_clean"} & set(await shut_by(fleet))
    state = await fleet.scans.states.get("s")
    done = await finalize(fleet.services, state, quiet_s=0.5, who="t", override="a test")
    assert done.report["allow_empty"] is True
    evidence = {one["name"]: one["evidence"] for one in done.report["conditions"]}
    assert "allow_empty says that this is meant" in evidence["scan_complete"]


async def test_a_scan_in_which_nearly_everything_is_absent_stops_and_says_so(fleet):
    keys = [f"k/{n:03}" for n in range(130)]
    fleet.origin.bodies.update(dict.fromkeys(keys[:3], b"x"))
    report = await fleet.scan("s", keys)
    assert (report["phase"], report["total"]["absent"]) == ("failed", 127)
    assert "127 of 130 keys are absent at the origin, more than 90%" in report["error"]
    assert "--max-absent 1" in report["error"]
    report = await verified(fleet)
    assert (report.clean, report.faults) == (False, 0)
    assert "127 of 130 keys are neither in the store nor at the origin" in report.unproved[0]
    with pytest.raises(ConfigError, match="begin anew: ferryman scan start s"):
        await fleet.scans.order("s", "resume")
    # Somebody says that it is meant.
    report = await fleet.scan("s", keys, max_absent=1.0)
    assert (report["phase"], report["total"]["absent"], report["total"]["present"]) == ("done", 127, 3)
    assert (await verified(fleet)).clean
    fleet.services.settings.scans["s"] = ScanSettings(bucket=fleet.bucket, max_absent=1)
    await fleet.scan("s", keys)
    assert (await verified(fleet)).clean


async def test_a_verification_in_which_nearly_everything_is_absent_asks_the_origin_no_further(
    fleet, monkeypatch
):
    keys = [f"k/{n:03}" for n in range(300)]
    await fleet.scan("s", keys)
    fleet.origin.asked.clear()
    monkeypatch.setattr("scheduler.scan.verify.judging.ENOUGH_SETTLED", 120)
    report = await verified(fleet)
    assert not report.clean
    assert "stopped: 300 of 300 keys are not in the store" in report.unproved[0]
    assert 120 <= len(fleet.origin.asked) < 140


async def test_what_is_mended_is_asked_for_anew_by_the_same_command(fleet):
    keys = [f"k/{n:03}" for n in range(110)]
    report = await fleet.scan("s", keys)
    assert (report["phase"], report["begins_anew"]) == ("failed", True)
    fleet.origin.bodies.update(dict.fromkeys(keys, b"x"))
    again = await fleet.scan("s", keys)
    assert (again["phase"], again["total"]["stored"]) == ("done", 110)
    assert again["run"] != report["run"]


async def test_a_failure_is_listed_no_more_once_a_scan_finds_the_key_present(fleet):
    fleet.origin.bodies.update({"a/b": b"x", "c": b"y", "d": b"z"})
    await fleet.put("a/b", b"by somebody else, by hand")
    await fleet.put("d", b"zz")

    def failed(key, reason="origin_status"):
        return Failure(bucket=fleet.bucket, key=key, reason=reason, message="500", rule="rule-1")

    failures = fleet.services.ledger.failures
    await failures.add(
        [failed("a/b"), failed("d"), failed("not/there"), failed("own", "key_not_representable")]
    )
    await fleet.put("own", b"a name that the store has for another key")
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\nc,1\nd,1\n")
    await fleet.scan("s", inventory={"manifest": str(path)})
    left = {failure.key async for failure in failures.iterate(fleet.bucket)}
    assert left == {"d", "not/there", "own"}, "what differs, is not there, or is another's stays listed"
