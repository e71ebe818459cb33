"""One installation and one Chromium for all rooms; whatever the browser complains about fails the test."""

from __future__ import annotations

import shutil

import pytest

from support.installation import running_origin, running_up

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def origin():
    with running_origin() as origin:
        origin.bodies.update({f"k{n}": f"body {n}\n".encode() for n in range(60)})
        origin.bodies["dir/<b>&'\".txt"] = b"odd\n"
        yield origin


@pytest.fixture(scope="module")
def up(tmp_path_factory, origin):
    root = tmp_path_factory.mktemp("up")
    config = root / "config.yaml"
    config.write_text(
        "buckets: {zoo: {}}\n"
        "origin: {allow_networks: [127.0.0.0/8]}\n"
        "admin: {viewer_token: a-token-for-walls-and-colleagues}\n"
    )
    with running_up(root, origin.url, extra=("--config", str(config))) as up:
        yield up


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, up):
    """A signed-in page of 1280 x 800; whatever the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{up.admin}/")
    page.fill("#token", up.token)
    page.click("button")
    page.wait_for_selector("h1.headline")
    yield page
    context.close()
    # That an order was refused, or that a thing is not there, is for the page to say, and it does.
    said = ("400 (Bad Request)", "404 (Not Found)", "409 (Conflict)", "412 (Precondition Failed)")
    assert [one for one in complaints if not any(word in one for word in said)] == []
