"""What keeps the gate shut, and what does not: misses by what became of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scheduler.logs.board import Board
from scheduler.misses.event import MissEvent
from scheduler.scan.gate.finalize import finalize
from scheduler.scan.gate.gate import look
from scheduler.scan.verify.verify import Verifier
from support.installation import eventually
from workers.ledger.failures import Failure
from workers.plan import Lane

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


class Consumer:
    """A consumer that has accepted so many misses of a log."""

    def __init__(self, accepted, files=()):
        self.totals = dict.fromkeys(
            ("lines", "misses", "repeats", "duplicate", "unmatched", "absent", "tombstoned", "refused",
             "tombstones", "gaps", "gap_bytes"), 0,
        ) | {"accepted": accepted}  # fmt: skip
        self._files = list(files)

    def status(self):
        return {"waiting_for": "", "files": self._files}


async def proved(fleet):
    """All is moved and verified, and the ledger is an hour old."""
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    await Verifier(fleet.services, await fleet.scans.states.get("s"), seed=1).run()
    await fleet.services.redis.set("ferryman:born", repr(time.time() - 3600))


async def shut_by(fleet, quiet_s=60.0):
    verdict = await look(fleet.services, await fleet.scans.states.get("s"), quiet_s=quiet_s)
    return {one.name: one.evidence for one in verdict.conditions if not one.ok and not one.warning}


async def missed(fleet, key):
    """A miss from a log, worked off."""
    event = MissEvent(bucket=fleet.bucket, key=key)
    report = await fleet.services.dispatcher.dispatch([event], lane=Lane.COLD)
    assert report.accepted == 1

    async def worked_off():
        depth = await fleet.services.queue.depth(Lane.COLD)
        return depth.waiting + depth.running + depth.delayed == 0

    await eventually(worked_off, "the miss was worked off")


async def test_misses_of_keys_that_no_origin_has_do_not_keep_the_gate_shut(fleet):
    await proved(fleet)
    for number in range(3):
        await missed(fleet, f"wp-login-{number}.php")
    await Board(fleet.services.ledger, Consumer(accepted=3), instance="logs").write()
    assert await shut_by(fleet) == {}


async def test_a_miss_of_a_log_that_an_origin_had_keeps_the_gate_shut(fleet):
    await proved(fleet)
    fleet.origin.bodies["forgotten.txt"] = b"not in the inventory"
    await Board(fleet.services.ledger, Consumer(accepted=1), instance="logs").write()
    assert await shut_by(fleet) == {}
    await missed(fleet, "forgotten.txt")
    shut = await shut_by(fleet)
    assert set(shut) == {"no_misses"}
    assert "1 keys pulled for logs and events" in shut["no_misses"]
    await missed(fleet, "still-not-there.txt")
    assert "1 keys pulled" in (await shut_by(fleet))["no_misses"]

    async def quiet_again():
        return await shut_by(fleet, quiet_s=1.5) == {}

    await eventually(quiet_again, "the quiet period passed")


async def test_what_a_scan_moves_is_no_miss(fleet):
    await proved(fleet)
    fleet.origin.bodies["more.txt"] = b"y"
    await fleet.scan("s", ["a.txt", "more.txt"])
    await Board(fleet.services.ledger, Consumer(accepted=0), instance="logs").write()
    assert set(await shut_by(fleet)) == {"verify_clean"}


async def test_a_consumer_that_is_far_behind_its_log_is_not_watching(fleet):
    await proved(fleet)
    behind = {"path": "/var/log/nginx/access.log", "lag_bytes": 90_000, "lag_s": 700.0}
    board = Board(fleet.services.ledger, Consumer(0, [behind]), instance="logs")
    await board.write()
    shut = await shut_by(fleet)
    assert set(shut) == {"watched_all_the_time"}
    assert "consumer:logs: behind for 700 s in /var/log/nginx/access.log" in shut["watched_all_the_time"]
    caught_up = Consumer(0, [{**behind, "lag_bytes": 0, "lag_s": 0.0}])
    await Board(fleet.services.ledger, caught_up, instance="logs").write()
    assert await shut_by(fleet) == {}


async def test_the_report_says_for_how_long_it_was_quiet(fleet):
    await proved(fleet)
    await Board(fleet.services.ledger, Consumer(accepted=0), instance="logs").write()
    done = await finalize(
        fleet.services, await fleet.scans.states.get("s"), quiet_s=60.0, who="ann", keep_rule=True
    )
    assert done.verdict.open
    assert json.loads(Path(done.reports[0]).read_text())["quiet_s"] == 60.0


async def test_what_fails_while_the_gate_is_looked_at_keeps_it_shut(fleet, monkeypatch):
    await proved(fleet)
    await Board(fleet.services.ledger, Consumer(accepted=0), instance="logs").write()
    assert await shut_by(fleet) == {}
    depth = fleet.services.queue.depth

    async def and_ends(lane):
        """The last message of the lane has just ended, as a listed failure."""
        row = Failure(bucket=fleet.bucket, key="z", reason="soft_404", message="m", rule="rule-1")
        await fleet.services.ledger.failures.add([row])
        return await depth(lane)

    monkeypatch.setattr(type(fleet.services.queue), "depth", lambda _, lane: and_ends(lane))
    assert set(await shut_by(fleet)) == {"failures_settled"}
