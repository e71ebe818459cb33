"""Scans, failures, origins, logs and buckets on a running installation: each button does what it says."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import until
from workers.answers import Attempt
from workers.ledger.failures import Failure
from workers.ledger.ledger import Ledger

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

EVIL = "dir/<img src=x onerror=alert(1)>\u202egpj"
LONG = "l" + "/<b>" * 255 + "end"


def elsewhere(work):
    """Do it in another thread: this one runs the browser's loop."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


def in_ledger(up, work):
    """Do `work(ledger)` in the installation's Redis."""

    async def main():
        settings = resolve_running(load_settings(None, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
        ledger = Ledger.open(settings.broker)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return elsewhere(lambda: asyncio.run(main()))


def fails(up, *keys, bucket="site", reason="origin_timeout"):
    rows = [
        Failure(
            bucket=bucket, key=key, reason=reason, message="no byte within 10 s", rule="rule-1",
            attempts=(Attempt(origin="old.example.com", error="timeout", duration_s=10.0),), tries=3,
        )
        for key in keys
    ]  # fmt: skip
    in_ledger(up, lambda ledger: ledger.failures.add(rows))


def listed(up):
    return {row["key"] for row in json.loads(up.ask("/v1/failures", token=up.token)[2])["failures"]}


def test_a_scan_is_paused_resumed_and_cancelled_by_its_buttons(page, up, origin, tmp_path):
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("".join(f"{key}\n" for key in origin.bodies))
    page.goto(f"{up.admin}/scans")
    page.fill("#scan-name", "slowly")
    page.fill("#scan-argument", str(manifest))
    page.fill("#scan-rate", "0.2")
    page.click("#start-scan button")
    row = page.locator("tr", has_text="slowly")
    row.locator("text=Pause").click()
    row.locator("td.phase", has_text="paused").wait_for()
    row.locator("text=Resume").click()
    row.locator("td.phase", has_text="move").or_(row.locator("td.phase", has_text="compare")).wait_for()
    row.locator("text=Cancel").click()
    page.wait_for_selector("dialog[open]")
    page.click("#ask-yes")
    row.locator("td.phase", has_text="cancelled").wait_for()


def test_one_scan_shows_its_prefixes_and_is_followed(page, up, origin, tmp_path):
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("".join(f"{key}\n" for key in origin.bodies))
    order = {"name": "counted", "bucket": "site", "dry_run": True, "inventory": {"manifest": str(manifest)}}
    assert up.ask("/v1/scans", token=up.token, order=order)[0] == 202
    page.goto(f"{up.admin}/scans?name=counted")
    page.locator("#one-scan", has_text="done, a dry run").wait_for()
    page.locator("section[aria-labelledby=one-scan] th", has_text="dir/").wait_for()


def test_a_scan_that_is_asked_for_wrongly_says_so_at_the_field(page, up):
    page.goto(f"{up.admin}/scans")
    page.fill("#scan-name", "wrong")
    page.fill("#scan-argument", "/nowhere")
    page.fill("#scan-include", "(")
    page.click("#start-scan button")
    page.wait_for_selector("#scan-include-wrong")
    assert page.input_value("#scan-argument") == "/nowhere"
    assert page.evaluate("document.activeElement.id") == "scan-include"


def test_failures_are_looked_at_retried_and_waived(page, up):
    fails(up, "k1", "gone.txt", EVIL, LONG)
    until(lambda: len(listed(up)) == 4, "four failures are listed")
    page.goto(f"{up.admin}/failures?bucket=site&reason=origin_timeout")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert "\u202e" not in page.inner_text("table")
    page.click("text=gone.txt")
    page.wait_for_selector("#one-key")
    assert "timeout" in page.inner_text("section[aria-labelledby=one-key] table")

    page.goto(f"{up.admin}/failures?bucket=site")
    page.check("input[value='k1']")
    page.click("text=Retry the chosen")
    page.locator("#said", has_text="Sent once more").wait_for()
    until(lambda: "k1" not in listed(up), "k1 is off the list")
    page.check("input[value='gone.txt']")
    page.click("text=Waive the chosen")
    page.locator("form[data-pick] p.error", has_text="Say why").wait_for()
    assert page.is_checked("input[value='gone.txt']")
    page.fill("#because", "was never public")
    page.click("text=Waive the chosen")
    page.locator("#said", has_text="Waived").wait_for()
    waivers = in_ledger(up, lambda ledger: ledger.failures.waivers("site"))
    assert [(one.key, one.reason, one.by) for one in waivers] == [
        ("gone.txt", "was never public", "admin, in a browser")
    ]
    assert any('"admin_change"' in line and '"waived"' in line for line in up.output.splitlines())


def test_what_only_the_origin_has_and_what_was_deleted_can_be_looked_at(page, up):
    fails(up, "only/at/the/origin.txt")
    in_ledger(up, lambda ledger: ledger.claims.add_tombstones("site", [EVIL], ttl_s=900, reason="operator"))
    order = {"name": "seen", "bucket": "site", "dry_run": True, "inventory": {"manifest": "/nowhere"}}
    assert up.ask("/v1/scans", token=up.token, order=order)[0] == 202
    page.goto(f"{up.admin}/buckets?bucket=site&view=origin&prefix=only/")
    page.locator("td.key", has_text="only/at/the/origin.txt").wait_for()
    page.goto(f"{up.admin}/buckets?bucket=site&view=tombstones")
    row = page.locator("tbody tr", has_text="<img src=x")
    assert "operator" in row.inner_text()
    assert "\u202e" not in row.inner_text()
    page.goto(f"{up.admin}/buckets?bucket=site")
    up.get("/site/dir/%3Cb%3E%26'%22.txt")
    until(lambda: elsewhere(lambda: up.stored("site", "dir/<b>&'\".txt")), "the object is stored")
    page.reload()
    page.click("text=dir/")
    page.locator("td.key a", has_text="<b>&'\".txt").click()
    page.locator("th", has_text="ferryman-rule").wait_for()


def test_an_origin_is_asked_and_a_wrong_url_is_kept(page, up, origin):
    page.goto(f"{up.admin}/origins")
    page.fill("#probe-url", "ftp://old.example.com/")
    page.click("#probe button")
    page.wait_for_selector("#probe-url-wrong")
    assert page.input_value("#probe-url") == "ftp://old.example.com/"
    page.fill("#probe-url", f"{origin.url}/k1")
    page.click("#probe button")
    page.locator("#probe-said", has_text="text/plain").wait_for()
    assert "200" in page.inner_text("#probe-said")
    assert page.locator("#probe-url-wrong").count() == 0


def test_what_does_not_exist_is_a_page_that_says_so(page, up):
    for path in ("/scans/none", "/scans?name=none", "/buckets/none", "/rules/none", "/gate/none", "/nowhere"):
        answer = page.goto(f"{up.admin}{path}")
        assert answer.status == 404, path
        assert "There is no" in page.inner_text("main"), path
