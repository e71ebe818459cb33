"""Scans of a bucket whose rules belong to the API, from the first key to the way back."""

from __future__ import annotations

import dataclasses
import time

import pytest

from scheduler.config.settings import BucketSettings
from scheduler.machine.startup import difference_to_file, publish_first_rules
from scheduler.rules.in_force.apply import apply_file_rules, read_options
from scheduler.rules.model import SourceFormat
from scheduler.rules.yaml import document
from scheduler.scan.gate.finalize import finalize, rollback
from scheduler.scan.gate.gate import look
from scheduler.scan.service import ScanService
from scheduler.scan.verify.verify import Verifier

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


async def put_by_api(fleet, rules):
    """As `PUT /v1/rules/BUCKET` does."""
    options = read_options(fleet.settings, fleet.bucket, owner="api")
    ruleset, _ = document.read_rules(rules, options, path="body")
    return await fleet.services.rules.replace(
        fleet.bucket, ruleset.rules, owner="api", who="key-1", how="PUT", source=SourceFormat.YAML
    )


@pytest.fixture
async def owned(fleet):
    """The fleet's bucket, named in the file without rules."""
    settings = fleet.settings.model_copy(update={"buckets": {fleet.bucket: BucketSettings()}})
    await fleet.services.rules.delete(fleet.bucket, owner="file", who="test", how="taken out of the file")
    fleet.settings = settings
    fleet.services = dataclasses.replace(fleet.services, settings=settings)
    fleet.scans = ScanService(fleet.services)
    return fleet


async def test_rules_of_the_api_are_scanned_finalized_and_brought_back(owned):
    fleet, rules = owned, owned.services.rules
    fleet.origin.bodies.update({"img/a.txt": b"x", "doc/b.txt": b"yy"})
    await put_by_api(fleet, [{"name": "pictures", "prefix": "img/", "origins": [fleet.origin.url]}])
    report = await fleet.scan("s", fleet.origin.bodies)
    assert (report["total"]["stored"], report["total"]["failed"]) == (1, 1)
    (failure,) = [one async for one in fleet.services.ledger.failures.iterate(fleet.bucket)]
    assert (failure.key, failure.reason) == ("doc/b.txt", "no_rule")
    await put_by_api(
        fleet,
        [
            {"name": "pictures", "prefix": "img/", "origins": [fleet.origin.url]},
            {"name": "papers", "prefix": "doc/", "origins": [fleet.origin.url]},
        ],
    )
    report = await fleet.scan("s", fleet.origin.bodies)
    assert (report["total"]["present"], report["total"]["stored"], report["total"]["failed"]) == (1, 1, 0)
    state = await fleet.scans.states.get("s")
    await Verifier(fleet.services, state, full=True).run()
    await fleet.services.ledger.minutes.write("front", "f", int(time.time() // 60), {})
    await fleet.services.redis.set("ferryman:born", repr(time.time() - 60))
    verdict = await look(fleet.services, state, quiet_s=0.5)
    assert verdict.open, [one for one in verdict.conditions if not one.ok]
    assert {rule.name for rule in verdict.rules} == {"pictures", "papers"}
    done = await finalize(fleet.services, state, quiet_s=0.5, who="ann")
    assert done.retired == ("papers", "pictures")
    left = rules.snapshot(fleet.bucket)
    assert (left.rules, left.owner) == ((), "api")
    # A process that starts with the file, which names no rules, changes nothing of it.
    await apply_file_rules(rules, fleet.settings)
    assert await rollback(fleet.services, state, who="ann") == ("papers", "pictures")
    back = rules.snapshot(fleet.bucket)
    assert ([rule.name for rule in back.rules], back.owner) == (["pictures", "papers"], "api")
    assert (await put_by_api(fleet, [])).changed, "the API owns them still"


async def test_a_rule_that_the_api_puts_again_after_its_retirement_is_in_force(owned):
    fleet = owned
    rule = [{"name": "all", "origins": [fleet.origin.url]}]
    fleet.origin.bodies["a.txt"] = b"x"
    await put_by_api(fleet, rule)
    await fleet.scan("s", ["a.txt"])
    state = await fleet.scans.states.get("s")
    await finalize(fleet.services, state, quiet_s=0.5, who="ann", override="a drill")
    assert fleet.services.rules.snapshot(fleet.bucket).rules == ()
    await put_by_api(fleet, rule)
    assert [one.name for one in fleet.services.rules.snapshot(fleet.bucket).rules] == ["all"]
    assert "scan_newer_than_switch" in {
        one.name for one in (await look(fleet.services, state, quiet_s=0.5)).conditions if not one.ok
    }


async def test_a_worker_puts_the_files_rules_in_force_only_where_there_never_were_any(owned):
    fleet, rules = owned, owned.services.rules
    wanted = fleet.settings.model_copy(
        update={
            "buckets": {
                fleet.bucket: BucketSettings(rules=({"origins": ["https://stale.example"]},)),
                "fresh-bucket": BucketSettings(rules=({"origins": ["https://new.example"]},)),
            }
        }
    )
    await put_by_api(fleet, [{"origins": [fleet.origin.url]}])
    before = rules.snapshot(fleet.bucket)
    assert await publish_first_rules(rules, wanted, who="worker") == ("fresh-bucket",)
    assert await publish_first_rules(rules, wanted, who="worker") == ()
    assert await rules.read(fleet.bucket) == before
    assert (await rules.read("fresh-bucket")).owner == "file"
    assert await difference_to_file(rules, wanted, "fresh-bucket") is None
    assert "other rules for bucket" in await difference_to_file(rules, wanted, fleet.bucket)
    assert await difference_to_file(rules, fleet.settings, fleet.bucket) is None, "the file names none"


async def test_a_limit_counts_replaced_objects_and_the_next_run_goes_on(owned):
    fleet = owned
    await put_by_api(fleet, [{"origins": [fleet.origin.url]}])
    keys = [f"{number}.txt" for number in range(6)]
    fleet.origin.bodies.update(dict.fromkeys(keys, b"old"))
    await fleet.scan("first", keys)
    fleet.origin.bodies.update(dict.fromkeys(keys, b"newer"))
    fleet.origin.bodies.update({"m1": b"m", "m2": b"m"})
    await fleet.put("own.txt", b"a user's")
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\nown.txt,3\nm1,1\nm2,1\n" + "".join(f"{key},5\n" for key in keys))
    given = {"inventory": {"manifest": str(path)}, "replace": True, "limit": 5}
    total = (await fleet.scan("s", **given))["total"]
    # Two were missing and three replaced; of the other three nothing is said, and the user's own stays.
    assert (total["stored"], total["differs"], total["found"]) == (5, 1, 6)
    total = (await fleet.scan("s", **given))["total"]
    assert (total["present"], total["stored"], total["differs"], total["found"]) == (5, 3, 1, 9)
    assert [await fleet.body(key) for key in keys] == [b"newer"] * 6
    assert await fleet.body("own.txt") == b"a user's"
    state = await fleet.scans.states.get("s")
    (partial,) = [
        one
        for one in (await look(fleet.services, state, quiet_s=0.5)).conditions
        if one.name == "scan_covers_all"
    ]
    assert (partial.ok, partial.evidence) == (False, "limited by --limit")
