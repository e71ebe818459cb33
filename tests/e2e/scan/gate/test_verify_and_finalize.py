"""Verification and the gate, over real parts."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import time
from pathlib import Path

import lxml.html
import orjson
import pytest
from pydantic import SecretStr

from scheduler.config.settings import ScanSettings
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.scan.gate.finalize import finalize, rollback
from scheduler.scan.gate.gate import look
from scheduler.scan.verify.verify import Verifier
from workers.errors import ConfigError
from workers.ledger.failures import Failure

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


async def verified(fleet, name="s", **options):
    return await Verifier(fleet.services, await fleet.scans.states.get(name), seed=1, **options).run()


async def gate(fleet, quiet_s=0.5):
    state = await fleet.scans.states.get("s")
    return await look(fleet.services, state, quiet_s=quiet_s)


def failing(verdict):
    return {one.name for one in verdict.conditions if not one.ok and not one.warning}


async def test_a_clean_migration_verifies_clean_with_a_stated_bound(fleet):
    fleet.origin.bodies.update({f"d/{n}.txt": f"body {n}".encode() for n in range(60)})
    await fleet.scan("s", [*fleet.origin.bodies, "gone.txt"])
    report = await verified(fleet)
    assert (report.clean, report.checked, report.compared) == (True, 61, 0)
    assert report.counts == {"absent_at_origin": 1}
    report = await verified(fleet, sample=50)
    assert (report.clean, report.compared) == (True, 50)
    assert report.bad_per_million == pytest.approx((1 - 0.01 ** (1 / 50)) * 1e6)
    report = await verified(fleet, full=True)
    assert (report.clean, report.compared, report.bad_per_million) == (True, 60, None)


async def test_p35_damage_after_the_move_is_found(fleet):
    fleet.origin.bodies.update({"a.txt": b"aaaa", "b.txt": b"bbbb", "c.txt": b"cccc"})
    path = fleet.tmp_path / "sizes.csv"
    path.write_text("key,size\na.txt,4\nb.txt,4\nc.txt,4\n")
    await fleet.scan("s", inventory={"manifest": str(path)})
    await fleet.services.store.delete(fleet.bucket, "a.txt")
    await fleet.put("b.txt", b"longer than it was")
    await fleet.put("c.txt", b"CCCC")
    report = await verified(fleet)
    assert not report.clean
    assert {(one.key, one.finding) for one in report.problems} == {("a.txt", "missing"), ("b.txt", "size")}
    sizes = {one.key: one.detail for one in report.problems}
    assert sizes["b.txt"] == "4 bytes in the inventory, 18 in the store"
    await fleet.put("d.txt", b"a user's own")
    report = await verified(fleet, full=True)
    (damaged,) = [one for one in report.problems if one.key == "c.txt"]
    assert damaged.finding == "bytes"
    assert "written by somebody else" in damaged.detail
    assert (report.extra, report.extra_keys) == (1, ("d.txt",))
    assert set(report.remedies) == {"missing", "size", "bytes"}
    assert "ferryman scan start s" in report.remedies["missing"]


async def test_what_the_inventory_does_not_name_is_no_fault_of_the_move(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    for number in range(25):
        await fleet.put(f"own/{number:02}", b"y")
    report = await verified(fleet)
    assert (report.clean, report.counts, report.extra, len(report.extra_keys)) == (True, {}, 25, 20)


async def test_drift_at_the_origin_is_told_apart_from_damage(fleet, origin):
    from support.installation import _Handler

    validators = iter(('"v1"', '"v2"'))
    etag = next(validators)
    original = _Handler.end_headers

    def with_etag(self):
        self.send_header("ETag", etag)
        original(self)

    _Handler.end_headers = with_etag
    try:
        fleet.origin.bodies["a.txt"] = b"old"
        await fleet.scan("s", ["a.txt"])
        fleet.origin.bodies["a.txt"] = b"new"
        etag = next(validators)
        report = await verified(fleet, full=True)
    finally:
        _Handler.end_headers = original
    assert [(one.key, one.finding) for one in report.problems] == [("a.txt", "drift")]
    assert report.clean, "a change at the origin is no fault of the move"


async def test_drift_is_seen_in_the_listing_when_the_inventory_tells_times(fleet):
    fleet.origin.bodies.update(dict.fromkeys(["a.txt", "b.txt"], b"same"))
    await fleet.scan("first", ["a.txt", "b.txt"])
    path = fleet.tmp_path / "times.csv"
    path.write_text(f"key,size,mtime\na.txt,4,{time.time() + 60}\nb.txt,4,{time.time() - 86_400}\n")
    await fleet.scan("s", inventory={"manifest": str(path)})
    report = await verified(fleet)
    assert ([(one.key, one.finding) for one in report.problems], report.clean) == ([("a.txt", "drift")], True)


async def test_the_report_goes_to_the_report_bucket_signed_and_without_secrets(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    reports = f"{fleet.bucket}-reports"
    await fleet.services.store.ensure_bucket(reports)
    token = "an admin token of the test"
    source = {
        "bucket": "old",
        "endpoint": "https://u:pass-in-url@s3.example",
        "secret_access_key": "source key",
    }
    scans = {
        "other": ScanSettings(bucket=fleet.bucket, inventory=source),
        "signed": ScanSettings(bucket=fleet.bucket, inventory={"manifest": "https://h/m.csv?sig=in-query"}),
    }
    settings = fleet.settings.model_copy(
        update={
            "scans": scans,
            "report_bucket": reports,
            "admin": fleet.settings.admin.model_copy(update={"token": SecretStr(token)}),
        }
    )
    services = dataclasses.replace(fleet.services, settings=settings)
    state = await fleet.scans.states.get("s")
    done = await finalize(services, state, quiet_s=0.5, who="ann <b>", override="a drill", keep_rule=True)
    name = Path(done.reports[0]).name
    async with await services.store.get(reports, f".ferryman/reports/{name}") as answer:
        body = b"".join([chunk async for chunk in answer.chunks()])
    assert await fleet.body(f".ferryman/reports/{name}") is None
    written = json.loads(body)
    digest, signature = written.pop("sha256"), written.pop("hmac_sha256")
    signed = orjson.dumps(written, option=orjson.OPT_SORT_KEYS)
    assert digest == hashlib.sha256(signed).hexdigest()
    assert signature == hmac.new(token.encode(), signed, hashlib.sha256).hexdigest()
    page = Path(done.reports[0]).with_suffix(".html").read_text()
    store_key = fleet.settings.store.secret_access_key.get_secret_value()
    for secret in (token, store_key, "source key", "pass-in-url", "in-query"):
        assert secret not in body.decode()
        assert secret not in page
    assert "create-only PUT: if-none-match (proven)" in json.loads(body)["store"]
    tree = lxml.html.fromstring(page)
    assert "create-only multipart: if-none-match" in [one.text_content() for one in tree.iter("li")]
    assert "by ann <b>." in " ".join(tree.text_content().split())
    rows = [[cell.text_content() for cell in row.findall("td")] for row in tree.iter("tr")]
    assert {row[1] for row in rows if len(row) == 3} >= {one.name for one in done.verdict.conditions}


async def test_the_gate_opens_only_when_all_is_proved_and_retires_the_rule_for_good(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.services.ledger.minutes.write("front", "f", int(time.time() // 60), {})
    await fleet.scan("s", ["a.txt"])
    assert "verify_clean" in failing(await gate(fleet))
    await verified(fleet)
    await fleet.services.ledger.redis.set("ferryman:born", repr(time.time() - 60))
    assert failing(await gate(fleet)) == set()
    # A miss that a front served from the origin, a listed failure, a hole in the record: each shuts it.
    now = int(time.time() // 60)
    await fleet.services.ledger.minutes.write("front", "f", now, {f"origin|{fleet.bucket}|rule-1": 1})
    assert failing(await gate(fleet)) == {"no_misses"}
    await fleet.services.ledger.minutes.write("front", "f", now, {})
    await fleet.services.ledger.failures.add(
        [Failure(bucket=fleet.bucket, key="z", reason="soft_404", message="m", rule="rule-1")]
    )
    assert failing(await gate(fleet)) == {"failures_settled"}
    await fleet.services.ledger.failures.waive(fleet.bucket, ["z"], reason="an old banner", by="ann")
    await fleet.services.ledger.minutes.write("front", "g", now - 30, {})
    assert failing(await gate(fleet, quiet_s=0.5)) == {"watched_all_the_time"}
    await fleet.services.ledger.minutes.retire("front:g")
    assert failing(await gate(fleet, quiet_s=3600)) == {"watched_all_the_time"}, "the ledger is too young"
    state = await fleet.scans.states.get("s")
    done = await finalize(fleet.services, state, quiet_s=0.5, who="ann")
    assert done.retired == ("rule-1",)
    assert fleet.services.rules.snapshot(fleet.bucket).rules == ()
    local = Path(done.reports[0])
    written = json.loads(local.read_text())
    assert written["waivers"][0]["reason"] == "an old banner"
    assert written["gate_open"] is True
    assert fleet.settings.store.secret_access_key.get_secret_value() not in local.read_text()
    assert await fleet.body(f".ferryman/reports/{local.name}") == local.read_bytes()
    assert "<h1>" in local.with_suffix(".html").read_text()
    # The configuration file still has the rule: it does not come back by itself.
    await apply_file_rules(fleet.services.rules, fleet.settings)
    assert fleet.services.rules.snapshot(fleet.bucket).rules == ()
    assert await rollback(fleet.services, state, who="ann") == ("rule-1",)
    assert [rule.name for rule in fleet.services.rules.snapshot(fleet.bucket).rules] == ["rule-1"]
    history = await fleet.services.rules.history(fleet.bucket)
    assert [change.how.split(" ")[0] for change in history[:2]] == ["finalize", "finalized:"]
    with pytest.raises(ConfigError, match="was retired"):
        await rollback(fleet.services, state, who="ann")


async def test_keep_rule_proves_and_reports_and_an_override_is_reported(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    state = await fleet.scans.states.get("s")
    shut = await finalize(fleet.services, state, quiet_s=0.5, who="ann")
    assert (shut.verdict.open, shut.retired, shut.reports) == (False, (), ())
    assert len(fleet.services.rules.snapshot(fleet.bucket).rules) == 1
    kept = await finalize(
        fleet.services, state, quiet_s=0.5, who="ann", keep_rule=True, override="the origin burnt down"
    )
    assert (kept.retired, kept.report["override"]) == ((), "the origin burnt down")
    assert kept.report["gate_open"] is False
    assert len(fleet.services.rules.snapshot(fleet.bucket).rules) == 1


async def test_a_rule_beyond_the_scans_prefix_is_not_retired(fleet):
    fleet.origin.bodies["img/a.txt"] = b"x"
    await fleet.scan("s", ["img/a.txt"], prefix="img/")
    verdict = await gate(fleet)
    assert "rule_in_force" in failing(verdict)
    assert verdict.rules == ()


async def test_a_dry_retirement_answers_a_share_of_missing_keys_and_always_the_same(fleet):
    retired = fleet.services.rules.retired
    keys = [f"{number}.txt" for number in range(4000)]
    assert not any(retired.is_dry(fleet.bucket, key) for key in keys)
    await retired.set_share(fleet.bucket, 0.25)
    dry = {key for key in keys if retired.is_dry(fleet.bucket, key)}
    assert 0.2 < len(dry) / len(keys) < 0.3
    assert not any(retired.is_dry("other", key) for key in keys)
    await retired.set_share(fleet.bucket, 0.5)
    assert dry < {key for key in keys if retired.is_dry(fleet.bucket, key)}, (
        "growing the share keeps who is in it"
    )
    await retired.set_share(fleet.bucket, 0)
    assert not any(retired.is_dry(fleet.bucket, key) for key in keys)


async def test_verifying_without_the_inventory_says_where_it_may_be(fleet):
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    state = await fleet.scans.states.get("s")
    Path(state.inventory_file).unlink()
    with pytest.raises(ConfigError, match="is not on this machine: verify where the scan was run"):
        await verified(fleet)
    await fleet.scan("t", inventory={"manifest": "/nowhere/list.csv"})
    with pytest.raises(ConfigError, match="scan t is failed, and its inventory was not read to its end"):
        await verified(fleet, "t")
