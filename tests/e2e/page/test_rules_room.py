"""The room of rules on a running installation: checked, put in force, explained, compared, rolled back."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

ROOM = "/rules?bucket=zoo"
COS = (
    "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType><OriginInfo><HostInfo>"
    "<HostName>a.example.com</HostName></HostInfo></OriginInfo></OriginRule></OriginConfiguration>"
)
OSS = (
    "<WebsiteConfiguration><RoutingRules><RoutingRule><RuleNumber>1</RuleNumber><Condition/><Redirect>"
    "<RedirectType>Mirror</RedirectType><MirrorURL>http://a.example/</MirrorURL></Redirect>"
    "</RoutingRule></RoutingRules></WebsiteConfiguration>"
)
EVIL = "<img src=x onerror=alert(1)>\u202e"


def rules(*names, host="127.0.0.1:9"):
    listed = (f"  - {{name: {name}, prefix: {name}/, origins: ['http://{host}']}}\n" for name in names)
    return "rules:\n" + "".join(listed)


def put_in_force(page, up, text):
    page.goto(f"{up.admin}{ROOM}")
    page.fill("#document", text)
    page.click("text=Put in force …")
    page.wait_for_selector("dialog[open]")


def in_force(up, bucket="zoo"):
    status, _, body = up.ask(f"/v1/rules/{bucket}", token=up.token)
    return [rule["name"] for rule in json.loads(body)["rules"]] if status == 200 else []


def test_a_document_that_is_wrong_keeps_its_text_and_says_what_is_wrong_at_which_line(page, up):
    page.goto(f"{up.admin}{ROOM}")
    text = f"rules:\n  - prefix: a/\n    origins: ['ftp://a.example.com']\n    {EVIL}: 1\n"
    page.fill("#document", text)
    page.click("button[name=check]")
    page.wait_for_selector("#document-wrong li")
    assert page.input_value("#document") == text
    assert page.get_attribute("#document", "aria-invalid") == "true"
    told = page.inner_text("#document-wrong")
    assert "line 3" in told
    assert "\u202e" not in told
    assert page.query_selector("#document-wrong img") is None
    page.click("#document-wrong li button")
    area = "document.getElementById('document')"
    assert "origins" in page.evaluate(f"{area}.value.slice({area}.selectionStart, {area}.selectionEnd)")


@pytest.mark.parametrize("document", [COS, OSS])
def test_a_vendors_document_is_checked_against_what_is_in_force_and_changes_nothing(page, up, document):
    before = in_force(up)
    page.goto(f"{up.admin}{ROOM}")
    page.fill("#document", document)
    page.click("button[name=check]")
    page.wait_for_selector("#document-said .difference")
    assert "1 rule" in page.inner_text("#document-said")
    assert in_force(up) == before


def test_rules_are_put_in_force_compared_and_rolled_back_each_after_the_difference_was_shown(page, up):
    put_in_force(page, up, rules("first"))
    assert "new: first" in page.inner_text("dialog")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")
    assert in_force(up) == [], "who leaves it changes nothing"

    put_in_force(page, up, rules("first"))
    page.click("#ask-yes")
    page.locator("#in-force", has_text="version").wait_for()
    assert in_force(up) == ["first"]
    put_in_force(page, up, rules("second", "third"))
    assert "gone: first" in page.inner_text("dialog")
    page.click("#ask-yes")
    page.locator("#history-title + div tbody tr").nth(1).wait_for()
    assert in_force(up) == ["second", "third"]
    assert "admin, in a browser" in page.inner_text("#history")

    page.locator("#history a", has_text="against the one before").first.click()
    page.wait_for_selector("#history .difference")
    assert "first" in page.inner_text("#history ul.changes")
    page.locator("#history button", has_text="Roll back").first.click()
    page.wait_for_selector("dialog[open] .difference .in")
    assert "gone: second, third" in page.inner_text("dialog")
    page.click("#ask-yes")
    page.locator("#history-title + div tbody tr").nth(2).wait_for()
    assert in_force(up) == ["first"]
    assert any('"admin_change"' in line and '"back_to"' in line for line in up.output.splitlines())


def test_rules_that_changed_meanwhile_are_not_overwritten(page, up):
    put_in_force(page, up, rules("mine"))
    page.evaluate(
        """async () => fetch('/v1/rules/zoo', {method: 'PUT', body: 'rules: []',
             headers: {'x-ferryman-csrf': document.querySelector('meta[name=csrf]').content}})"""
    )
    page.click("#ask-yes")
    page.locator("#document-wrong", has_text="is in force, not").wait_for()
    assert "mine" in page.input_value("#document")
    assert in_force(up) == []


def test_it_is_explained_which_rule_answers_and_a_wrong_field_keeps_what_was_typed(page, up):
    page.goto(f"{up.admin}/rules?bucket=site")
    page.fill("#e-key", "img/a b.png")
    page.fill("#e-status", "4o4")
    page.keyboard.press("Enter")
    page.wait_for_selector("#e-status-wrong")
    assert (page.input_value("#e-key"), page.input_value("#e-status")) == ("img/a b.png", "4o4")
    page.fill("#e-status", "404")
    page.keyboard.press("Enter")
    page.wait_for_selector(".verdict")
    told = page.inner_text("#explain")
    assert "rule-1 answers (mirror)" in told
    assert "/img/a%20b.png" in told


def test_rules_of_the_file_can_be_checked_and_not_changed(page, up):
    page.goto(f"{up.admin}/rules?bucket=site")
    assert page.locator("button[name=check]").count() == 1
    assert page.locator("button[name=apply], #history button").count() == 0
