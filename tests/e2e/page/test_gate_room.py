"""The room of the gate on a running installation: looked at, passed, reported, taken back."""

from __future__ import annotations

import json

import pytest

from support.installation import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def scanned(up, origin, tmp_path_factory):
    """The site is moved by a scan of the name `gated`."""
    manifest = tmp_path_factory.mktemp("gate") / "manifest.txt"
    manifest.write_text("".join(f"{key}\n" for key in origin.bodies))
    order = {"name": "gated", "bucket": "site", "inventory": {"manifest": str(manifest)}}
    assert up.ask("/v1/scans", token=up.token, order=order)[0] == 202

    def done():
        return json.loads(up.ask("/v1/scans/gated", token=up.token)[2])["phase"] == "done"

    until(done, "the scan is done")
    return "gated"


def rules(up):
    status, _, body = up.ask("/v1/rules/site", token=up.token)
    return [rule["name"] for rule in json.loads(body)["rules"]] if status == 200 else []


def test_each_condition_stands_with_its_evidence_and_what_to_do(page, up, scanned):
    page.goto(f"{up.admin}/gate?scan={scanned}&quiet=1s")
    assert "The gate is shut" in page.inner_text(".verdict")
    row = page.locator("tr.no", has_text="verify clean")
    assert "ferryman verify gated" in row.inner_text()
    page.fill("#g-quiet", "a while")
    page.click("text=Look")
    page.wait_for_selector("#g-quiet-wrong")
    assert page.input_value("#g-quiet") == "a while"


def test_who_does_not_type_the_name_changes_nothing_and_keeps_what_was_typed(page, up, scanned):
    page.goto(f"{up.admin}/gate?scan={scanned}&quiet=1s")
    page.fill("#f-override", "a drill")
    page.fill("#f-confirm", "gate")
    page.click("#finalize button")
    page.wait_for_selector("#f-confirm-wrong")
    assert "gated" in page.inner_text("#f-confirm-wrong")
    assert page.input_value("#f-override") == "a drill"
    assert page.evaluate("document.activeElement.id") == "f-confirm"
    page.fill("#f-override", "")
    page.fill("#f-confirm", "gated")
    page.click("#finalize button")
    page.locator("#finalize p.error", has_text="the gate is shut: verify_clean").wait_for()
    assert rules(up) == ["rule-1"]


def test_the_rules_are_retired_the_report_opens_clean_and_they_come_back(page, up, scanned):
    page.goto(f"{up.admin}/gate?scan={scanned}&quiet=1s")
    page.fill("#f-override", "<b>a drill</b>")
    page.fill("#f-confirm", "gated")
    page.click("#finalize button")
    page.wait_for_selector("#rollback, .panel a[href^='/v1/reports/']")
    assert rules(up) == []
    page.locator("a[href$='.html']").first.click()
    page.locator("h1", has_text="rules retired").wait_for()
    assert "<b>a drill</b>" in page.inner_text("body")
    border = page.evaluate("getComputedStyle(document.querySelector('td')).borderTopWidth")
    assert border == "1px", "the report's own style is allowed"
    page.go_back()
    page.fill("#r-confirm", "gated")
    page.click("#rollback button")
    page.locator("text=No rule of this bucket was retired.").wait_for()
    assert rules(up) == ["rule-1"]
    assert any('"admin_change"' in line and '"back_in_force"' in line for line in up.output.splitlines())


def test_a_viewer_sees_all_of_it_and_no_button(browser, up, scanned):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{up.admin}/?token=a-token-for-walls-and-colleagues")
    for room in (f"/gate?scan={scanned}&quiet=1s", "/rules?bucket=zoo", "/scans", "/failures", "/origins"):
        page.goto(f"{up.admin}{room}")
        assert page.locator("main button:not(form[method=get] button)").count() == 0, room
    status = page.evaluate(
        """async () => (await fetch('/v1/gate/gated/finalize', {method: 'POST', body: '{"confirm": "gated"}',
             headers: {'x-ferryman-csrf': document.querySelector('meta[name=csrf]').content}})).status"""
    )
    assert status == 403
    context.close()
