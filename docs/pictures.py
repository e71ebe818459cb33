"""Makes the pictures of README and docs: `make pictures`. A demo, Chromium, and the page in light and dark.

Owns which rooms are shown and how large. The demo is a real one in a directory of its own; the pictures are
WebP, 1280 x 800, and each stays below 150 kB or this ends with 1.
"""

# ruff: noqa: INP001, T201 -- a script beside the pages it makes
from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parent / "pictures"
MOST_BYTES = 150_000
#: Name and path of each room that is shown.
SHOWN = {"glance": "/"}
SCHEMES = ("light", "dark")
#: Seconds that the demo may take, and that somebody visits until the first latencies are written.
DEMO_S, VISITS_S = 300.0, 150.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main() -> int:
    """Make all of them; 0 when each is small enough."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("chromium is needed: apt-get install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ferryman-pictures-") as root, subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", "demo", "--dir", f"{root}/demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as demo:  # fmt: skip
        try:
            address = _address(demo)
            return _take(chromium, address)
        finally:
            demo.terminate()
            demo.wait(60)


def _address(demo: subprocess.Popen[str]) -> str:
    """The page's address with its token, once the demo has gone through its steps."""
    found, deadline = "", time.monotonic() + DEMO_S
    assert demo.stdout is not None
    for line in demo.stdout:
        print(line, end="")
        if line.startswith("Admin"):
            found = line.split()[1]
        if line.startswith("Ctrl-C ends"):
            return found
        if time.monotonic() > deadline:
            break
    message = "the demo did not come to its end"
    raise SystemExit(message)


def _take(chromium: str, address: str) -> int:
    parts = urlsplit(address)
    base = f"{parts.scheme}://{parts.netloc}"
    too_large = 0
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        # A figure that is there only after a minute's answers were counted.
        page.wait_for_selector("[data-measured]", timeout=VISITS_S * 1000)
        shots = page.context.new_cdp_session(page)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for name, path in SHOWN.items():
                page.goto(f"{base}{path}")
                shot = shots.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
                file = PICTURES / f"{name}-{scheme}.webp"
                file.write_bytes(base64.b64decode(shot["data"]))
                size = file.stat().st_size
                too_large += size > MOST_BYTES
                print(f"{file.relative_to(PICTURES.parent)}: {size:,} bytes")
        browser.close()
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
