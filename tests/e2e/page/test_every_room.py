"""The operations page in a real Chromium: rooms load clean, follow a migration, and do what they say."""

from __future__ import annotations

import re
import time

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

ROOMS = ("/", "/scans", "/failures", "/rules?bucket=site&key=k1&to=1", "/origins", "/logs", "/gate",
         "/buckets?bucket=site")  # fmt: skip


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.parametrize("width", [360, 1280, 3840])
def test_no_room_overflows_at_any_width(page, up, width):
    page.set_viewport_size({"width": width, "height": 800})
    for room in ROOMS:
        page.goto(f"{up.admin}{room}")
        assert overflow(page) <= 0, room


def test_the_first_screen_needs_no_scrolling(page):
    assert page.evaluate("document.documentElement.scrollHeight") <= 800


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, up, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    for room in (*ROOMS, "/login"):
        page.goto(f"{up.admin}{room}")
        found = Axe().run(page).response["violations"]
        serious = {one["id"]: [node["html"][:90] for node in one["nodes"]] for one in found
                   if one["impact"] in {"serious", "critical"}}  # fmt: skip
        assert serious == {}, room


def test_a_scan_is_started_by_the_form_and_its_room_follows_it_without_a_reload(page, up, origin, tmp_path):
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("".join(f"{key}\n" for key in origin.bodies))
    page.goto(f"{up.admin}/scans")
    page.evaluate("window.sameDocument = true")
    page.fill("#scan-name", "fromform")
    page.fill("#scan-argument", str(tmp_path / "nowhere.txt"))
    page.fill("#scan-prefix", "kept while the room is drawn anew")
    time.sleep(3)  # two drawings of the room pass over a form that is being filled in
    assert page.input_value("#scan-prefix") == "kept while the room is drawn anew"
    page.fill("#scan-prefix", "")
    page.fill("#scan-argument", str(manifest))
    page.click("#start-scan button")
    page.locator("td.phase", has_text="done").wait_for(timeout=60_000)
    row = page.inner_text("tbody tr")
    assert "fromform" in row
    assert re.search(rf"\b{len(origin.bodies)}\b", row)
    assert page.evaluate("window.sameDocument"), "the page was not loaded again"
    page.goto(f"{up.admin}/")
    page.locator("h1", has_text="100").wait_for(timeout=20_000)


def test_a_form_that_is_wrong_keeps_what_was_typed_and_says_what_is_wrong(page, up):
    page.goto(f"{up.admin}/scans")
    page.fill("#scan-name", "s2")
    page.select_option("#scan-source", "http_index")
    page.fill("#scan-argument", "ftp://nowhere.example/")
    page.eval_on_selector("#scan-name", "field => field.removeAttribute('pattern')")
    page.fill("#scan-name", "../s")
    with page.expect_response(lambda answer: "/v1/scans" in answer.url) as answer:
        page.click("#start-scan button")
    assert answer.value.status == 400
    page.locator("#start-scan .error:not(:empty)").wait_for()
    assert page.input_value("#scan-argument") == "ftp://nowhere.example/"


def test_what_is_stored_can_be_looked_at_with_its_origin(page, up):
    page.goto(f"{up.admin}/buckets?bucket=site&prefix=k1")
    page.click("text=k10")
    page.wait_for_selector("h2.key")
    table = page.inner_text("table")
    assert "ferryman-rule" in table
    assert "x-oss-tag" in table


def test_signing_out_ends_the_session(page, up):
    assert page.inner_text(".who").startswith("admin")
    page.click("text=Sign out")
    page.wait_for_url("**/login")
    page.goto(f"{up.admin}/scans")
    assert page.url.endswith("/login?next=/scans")


def test_a_token_in_the_address_does_not_stay_there(browser, up):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{up.admin}/scans?token={up.token}")
    assert page.url == f"{up.admin}/scans"
    context.close()


def test_a_lost_connection_is_said_and_comes_back(browser, up):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/live*", lambda route: route.abort())
    page.goto(f"{up.admin}/?token={up.token}")
    page.wait_for_selector("#connection:not([hidden])")
    page.unroute("**/live*")
    page.wait_for_selector("#connection", state="hidden")
    context.close()
