"""A site is served through nginx while it moves: docs/operations.md from the first miss to the origin's end.

`ferryman up` with the very configuration of the page, Debian's nginx with deploy/nginx/ferryman.conf as
deploy/compose fills it in, its log consumed, and the commands of the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from scheduler.config.ports import free_ports
from support.installation import (
    PATIENCE_S,
    Up,
    ferryman,
    fetch,
    plain_environment,
    running_origin,
    until,
)
from support.processes import die_with_parent
from support.real import skip_or_fail

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def page_configuration(root: Path, origin: str) -> str:
    """The configuration of docs/operations.md, with the origin and the log where this test has them."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = next(block for block in blocks if block.startswith("gateway:"))
    for old, new in (
        ("https://old.example.com", origin),
        ("/var/log/nginx/access.log", f"{root}/access.log"),
    ):
        assert old in text
        text = text.replace(old, new)
    # Few connections: an origin that is written in Python has to keep up.
    return f"data_dir: {root}/data\n" + text.replace("concurrency: 32", "concurrency: 8")


def run(root: Path, *arguments: str, code: int = 0) -> dict:
    """A command of the page, with `--json`."""
    done = subprocess.run(
        [*ferryman(*arguments), "--config", str(root / "config.yaml"), "--json"],
        capture_output=True, text=True, check=False, env=plain_environment(), cwd=root, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout)


@contextlib.contextmanager
def running(root: Path, *command: str, log: str):
    with (
        (root / log).open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=root,
            env=plain_environment(), start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- the threads hold no lock that it needs
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def running_nginx(root: Path, *, store: str, front: str, port: int):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        skip_or_fail("nginx is not installed (apt-get install nginx-light)")
    environment = {
        **os.environ,
        "SOURCE": str(DEPLOY / "nginx" / "ferryman.conf"),
        "CONF": str(root / "site.conf"),
        "STORE": store, "FRONTS": front, "BUCKET": "site",
        "SERVER_NAME": "www.example.com", "LISTEN": f"127.0.0.1:{port}",
        "ACCESS_LOG": str(root / "access.log"),
    }  # fmt: skip
    subprocess.run([str(DEPLOY / "compose" / "gateway.sh")], check=True, env=environment)
    places = "".join(
        f"{kind}_temp_path {root}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its workers must reach the temporary folder, which is closed to others.
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;\n"
        "events {}\n"
        f"http {{ {places} include {root}/site.conf; }}\n"
    )
    with running(root, nginx, "-c", str(root / "nginx.conf"), "-p", str(root), log="nginx.out") as process:
        until(lambda: process.poll() is not None or listens(port), "nginx listens")
        assert process.poll() is None, (root / "nginx.out").read_text() + (root / "error.log").read_text()
        yield


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Visitors(threading.Thread):
    """Somebody who reads the site all the time and notes every answer that is not the object."""

    def __init__(self, site: Site, keys: list[str]) -> None:
        super().__init__(daemon=True)
        self.site, self.keys = site, keys
        self.ended = threading.Event()
        self.seen = 0
        self.wrong: list[tuple[str, int]] = []

    def run(self) -> None:
        chance = random.Random(7)
        while not self.ended.is_set():
            key = chance.choice(self.keys)
            status, _, body = self.site.get(key)
            self.seen += 1
            if status != 200 or body != self.site.bodies[key]:
                self.wrong.append((key, status))
            time.sleep(0.005)


class Site:
    """The site as its clients see it: nginx, under its own name."""

    def __init__(self, port: int, bodies: dict[str, bytes]) -> None:
        self.port, self.bodies = port, bodies

    def get(self, key: str) -> tuple[int, dict[str, str], bytes]:
        url = f"http://127.0.0.1:{self.port}/{urllib.parse.quote(key)}"
        return fetch(urllib.request.Request(url, headers={"Host": "www.example.com"}), PATIENCE_S)


def test_a_site_behind_nginx_moves_while_it_is_served_and_its_origin_goes(tmp_path):
    root = tmp_path
    chance = random.Random(3)
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(running_origin())
        keys = [f"img/{n}.bin" for n in range(60)] + [f"docs/p {n}+1.html" for n in range(30)]
        origin.bodies.update({key: chance.randbytes(chance.randrange(200_000)) for key in keys})
        (root / "files.find0").write_bytes(
            "".join(f"{len(origin.bodies[key])} 0 {key}\0" for key in keys).encode()
        )
        (root / "access.log").touch()
        (root / "config.yaml").write_text(page_configuration(root, origin.url), encoding="utf-8")
        listen = ("--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
        process = stack.enter_context(running(root, *ferryman("up", *listen), log="up.log"))
        up = Up(process, root)
        until(lambda: "Ctrl-C stops" in up.output or process.poll() is not None, "ferryman up is ready")
        assert process.poll() is None, up.output[-4000:]
        told = up.output.splitlines()
        store = next(line for line in told if line.startswith("  store ")).split("http://")[1].split(",")[0]
        front = next(line for line in told if line.startswith("Gateway")).split("/")[2]
        # Chosen last, so that no part of ours takes it meanwhile.
        (port,) = free_ports(1)
        stack.enter_context(running_nginx(root, store=store, front=front, port=port))
        site = Site(port, origin.bodies)
        until(lambda: site.get("img/0.bin")[0] == 200, "the site answers through nginx")
        assert site.get("img/0.bin")[1]["x-oss-tag"].startswith("MIRROR http%3a%2f%2f")
        visitors = Visitors(site, keys)
        visitors.start()
        stack.callback(visitors.ended.set)

        # A gateway that does not hand misses on: only its log tells.
        with (root / "access.log").open("a", encoding="utf-8") as log:
            log.write(
                '203.0.113.9 - - [21/Nov/2026:05:00:00 +0000] "GET /img/59.bin HTTP/1.1" 404 9 "-" "x"\n'
            )
        until(lambda: up.stored("site", "img/59.bin"), "what only the log told is in the store")

        scanned = run(root, "scan", "start", "site", "--wait")
        total = scanned["total"]
        assert (scanned["phase"], total["found"], total["failed"]) == ("done", len(keys), 0)
        assert total["present"] + total["stored"] == len(keys)
        # Visitors, the log and the scan's batches ran against each other; the origin was asked once for each.
        assert max(origin.asked.count(key) for key in keys) == 1

        verified = run(root, "verify", "site", "--sample", "25")
        assert verified["clean"] is True

        # Visitors go on, and the gate is open all the same: what they ask for is in the store.
        def gate_is_open() -> bool:
            config = str(root / "config.yaml")
            check = ferryman("finalize", "site", "--check", "--quiet", "3s", "--config", config)
            done = subprocess.run(check, capture_output=True, check=False, env=plain_environment(), cwd=root)
            return done.returncode == 0

        until(gate_is_open, "the gate opens")
        done = run(root, "finalize", "site", "--quiet", "3s")
        assert done["retired"] == ["rule-1"]
        assert any(path.endswith(".html") for path in done["reports"])

        visitors.ended.set()
        visitors.join(PATIENCE_S)
        assert visitors.seen > 50
        assert visitors.wrong == []

        def nobody_is_asked() -> bool:
            before = len(origin.asked)
            return site.get(f"img/probe-{before}.bin")[0] == 404 and len(origin.asked) == before

        until(nobody_is_asked, "the front knows that the rule is retired")
        bodies = dict(origin.bodies)
        origin.bodies.clear()
        asked = len(origin.asked)
        for key, body in bodies.items():
            assert site.get(key)[::2] == (200, body)
        assert site.get("img/none.bin")[0] == 404
        assert len(origin.asked) == asked, "a retired rule asks nobody"

        assert run(root, "finalize", "site", "--rollback") == {"rolled_back": ["rule-1"]}
        origin.bodies["img/late.bin"] = b"late"
        until(lambda: site.get("img/late.bin")[0] == 200, "the rule is back")
