"""docs/operations.md word by word: every shell block of "Move a site, step by step" is run as it stands.

So are the commands of the sections that say how something is made good. Only places are exchanged (names,
ports, paths, and 24 h for a few seconds), and `ferryman up` stays in the background. nginx is Debian's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from scheduler.config.ports import free_ports
from support.installation import fetch, plain_environment, running_origin, until
from support.patience import PATIENCE_S
from support.processes import die_with_parent
from support.real import skip_or_fail

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
#: Other ways of the same step: a scan by night, by the whole fleet, and one that failed.
ASIDE = ("--window", "--shards", "failures retry")
TWO_WAYS = "The two ways: full switch, partial traffic"


def page(title: str = "Move a site, step by step") -> list[tuple[str, str]]:
    """(language, text) of the blocks of a section, in order."""
    return re.findall(r"```(sh|yaml)\n(.*?)```", section(title), flags=re.DOTALL)


def section(title: str) -> str:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


class Reader:
    """Somebody who does what the page says, in a folder of his own."""

    def __init__(self, root: Path, origin_url: str) -> None:
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            skip_or_fail("nginx is not installed (apt-get install nginx-light)")
        self.root = root
        self.gateway, self.admin, self.nginx = free_ports(3)
        self.places = {
            "https://old.example.com": origin_url,
            "http://127.0.0.1:8080": f"http://127.0.0.1:{self.gateway}",
            "FRONTS=127.0.0.1:8080": f"FRONTS=127.0.0.1:{self.gateway}",
            "LISTEN=80": f"LISTEN=127.0.0.1:{self.nginx}",
            "http://127.0.0.1/": f"http://127.0.0.1:{self.nginx}/",
            "/etc/nginx/conf.d": str(root / "conf.d"),
            "/var/log/nginx": str(root),
            "/var/www/site": str(root / "www"),
            "--quiet 24h": "--quiet 3s",
        }
        bin_ = root / "bin"
        bin_.mkdir()
        self._script(bin_ / "ferryman", f'exec {sys.executable} -P -m scheduler.cli "$@"')
        self._script(bin_ / "nginx", f'exec {nginx} -p {root} -c {root}/nginx.conf "$@"')
        self.environment = {
            **plain_environment(),
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "CHECKOUT": str(ROOT),
            "FERRYMAN_GATEWAY__LISTEN": f"127.0.0.1:{self.gateway}",
            "FERRYMAN_ADMIN__LISTEN": f"127.0.0.1:{self.admin}",
            "PYTHONPATH": str(ROOT),
        }

    @staticmethod
    def _script(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def fitted(self, text: str) -> str:
        for old, new in self.places.items():
            text = text.replace(old, new)
        return text

    def type(self, text: str, *, code: int = 0) -> str:
        """Run a block; everything that it printed."""
        done = subprocess.run(
            ["bash", "-ec", self.fitted(text)],
            cwd=self.root, env=self.environment, capture_output=True, text=True, errors="replace",
            check=False, timeout=2 * PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == code, (text, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    @contextlib.contextmanager
    def leave_running(self, command: str, log: str):
        """Run a program in the background; it ends with the block."""
        with (self.root / log).open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", f"exec {command}"], cwd=self.root, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 -- the origin's thread holds no lock that it needs
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def up(self):
        """`ferryman up` until the end of the block; yields what it printed until it was ready."""
        path = self.root / "up.log"
        with self.leave_running("ferryman up", "up.log") as up:
            until(
                lambda: "Ctrl-C stops" in path.read_text() or up.poll() is not None,
                "ferryman up is ready", timeout_s=2 * PATIENCE_S,
            )  # fmt: skip
            assert up.poll() is None, path.read_text()
            yield path.read_text()

    def visit(self, key: str) -> tuple[int, bytes]:
        """A request of the site's clients."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.nginx}/{key}", headers={"Host": "www.example.com"}
        )
        status, _, body = fetch(request, PATIENCE_S)
        return status, body


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def start_nginx(stack: contextlib.ExitStack, reader: Reader) -> str:
    """nginx before the page is followed: it serves the folder www, at the URL that is returned."""
    root = reader.root
    (root / "conf.d").mkdir()
    (spare,) = free_ports(1)
    user = "user root;" if os.geteuid() == 0 else ""
    places = "".join(
        f"{kind}_temp_path {root}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (root / "nginx.conf").write_text(
        f"{user} pid {root}/nginx.pid; error_log {root}/error.log; worker_processes 1; events {{}}\n"
        f"http {{ {places} access_log {root}/other.log; include {root}/conf.d/*.conf;\n"
        f"server {{ listen 127.0.0.1:{spare}; root {root}/www; }} }}\n"
    )
    stack.enter_context(reader.leave_running('nginx -g "daemon off;"', "nginx.out"))
    until(lambda: listens(spare), "nginx listens")
    return f"http://127.0.0.1:{spare}"


def test_the_page_moves_a_site(tmp_path):
    blocks = [block for block in page() if not any(word in block[1] for word in ASIDE)]
    shell = [text for language, text in blocks if language == "sh"]
    (configuration,) = [text for language, text in blocks if language == "yaml"]
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(running_origin())
        bodies = {f"img/{name}.png": os.urandom(20_000) for name in ["a", "b", *map(str, range(60))]}
        origin.bodies.update(bodies)
        for key, body in bodies.items():
            path = tmp_path / "www" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        (tmp_path / "access.log").touch()
        reader = Reader(tmp_path, origin.url)
        start_nginx(stack, reader)

        def following() -> str:
            return shell.pop(0)

        reader.type(following())
        (tmp_path / "config.yaml").write_text(reader.fitted(configuration), encoding="utf-8")
        command = following().strip()
        assert command == "ferryman up"
        log = stack.enter_context(reader.up())
        store = re.search(r"^  store .*http://([\d.:]+),", log, flags=re.MULTILINE)
        reader.places["STORE=127.0.0.1:8333"] = f"STORE={store[1]}"

        assert " 0 failed" in reader.type(following()), "doctor"
        assert "x-oss-tag: MIRROR" in reader.type(following()), "one request"
        assert "x-oss-tag: MIRROR" in reader.type(following()), "through nginx"
        reader.type(following())  # consume --dry-run
        assert reader.visit("img/1.png") == (200, bodies["img/1.png"])
        assert "hot" in reader.type(following()), "status and report"
        reader.type(following())  # the inventory
        assert f"found {len(bodies)} = " in reader.type(following()), "the scan"
        assert f"{len(bodies)} objects" in reader.type(following()), "verify"

        check = ["bash", "-ec", following().replace("--check", "--check --quiet 3s")]

        def gate_is_open() -> bool:
            done = subprocess.run(
                check, cwd=tmp_path, env=reader.environment, capture_output=True, check=False
            )
            return done.returncode == 0

        until(gate_is_open, "the gate opens")
        assert "answered with 404" in reader.type(following())
        reader.type("ferryman finalize site --share 0")
        assert "retired: rule-1" in reader.type(following())
        assert shell == []

        def nobody_is_asked() -> bool:
            before = len(origin.asked)
            return reader.visit(f"img/probe-{before}.png")[0] == 404 and len(origin.asked) == before

        until(nobody_is_asked, "the front knows that the rule is retired")
        origin.bodies.clear()
        asked = len(origin.asked)
        assert all(reader.visit(key) == (200, body) for key, body in bodies.items())
        assert reader.visit("img/none.png")[0] == 404
        assert len(origin.asked) == asked


def test_a_lost_redis_and_a_changed_origin_are_made_good_as_the_page_says(tmp_path):
    """ "When Redis is lost", and the partial traffic of "The two ways"."""
    (configuration,) = [text for language, text in page() if language == "yaml"]
    (inventory,) = [text for language, text in page() if "find . -type f" in text]
    ((_, way_back),) = page("When Redis is lost")
    replace = re.search(r"`(ferryman scan start site [^`]*--replace[^`]*)`", section(TWO_WAYS))[1]
    with contextlib.ExitStack() as stack:
        bodies: dict[str, bytes] = {}

        def publish(key: str, body: bytes) -> None:
            bodies[key] = body
            path = tmp_path / "www" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

        reader = Reader(tmp_path, "")
        reader.places["https://old.example.com"] = start_nginx(stack, reader)
        for number in range(40):
            publish(f"img/{number}.png", os.urandom(20_000))
        (tmp_path / "access.log").touch()
        (tmp_path / "config.yaml").write_text(reader.fitted(configuration), encoding="utf-8")
        reader.type(inventory)
        with reader.up():
            reader.type("ferryman scan start site --wait")
        shutil.rmtree(tmp_path / ".ferryman" / "valkey")
        publish("img/fresh.png", b"fresh")
        reader.type(inventory)
        with reader.up():
            told = reader.type(way_back)
            assert "40 present + 1 stored" in told
            assert "clean" in told

            # The object is younger than what was stored, as its file says.
            publish("img/3.png", os.urandom(9_000))
            os.utime(tmp_path / "www" / "img" / "3.png", (time.time() + 60,) * 2)
            assert "1 drift" in reader.type("ferryman verify site --sample 1000")
            reader.type(inventory)
            assert "40 present + 1 stored" in reader.type(replace.replace("\n", " "))
            url = f"http://127.0.0.1:{reader.gateway}/site/img/"
            for name in ("3.png", "fresh.png", "7.png"):
                assert fetch(urllib.request.Request(url + name), PATIENCE_S)[::2] == (
                    200,
                    bodies[f"img/{name}"],
                )
            assert "clean" in reader.type("ferryman verify site --sample 1000")
