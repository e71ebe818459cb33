"""A whole installation for tests: a small origin, and `ferryman up` as an operator starts it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.patience import PATIENCE_S
from support.processes import die_with_parent
from workers.store.client import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Poll until it holds, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 90.0) -> None:
    """As `until`, on an event loop."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


class Origin(http.server.ThreadingHTTPServer):
    """Serves `bodies` by path; a path in `gates` sends half, then waits for its event."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, bytes] = {}
        self.gates: dict[str, threading.Event] = {}
        self.half_sent: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.content_type = "text/plain"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gate(self, path: str) -> tuple[threading.Event, threading.Event]:
        """From now on `path` stops half-way: (set when it has, set it to let it go on)."""
        self.half_sent[path], self.gates[path] = threading.Event(), threading.Event()
        return self.half_sent[path], self.gates[path]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0]).lstrip("/")
        self.server.asked.append(path)
        body = self.server.bodies.get(path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            gate = self.server.gates.get(path)
            if gate is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[: len(body) // 2])
            self.server.half_sent[path].set()
            gate.wait(PATIENCE_S)
            self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running_origin() -> Iterator[Origin]:
    with Origin() as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield origin
        finally:
            for gate in origin.gates.values():
                gate.set()
            origin.shutdown()
            thread.join()


@dataclass(slots=True)
class Up:
    """A running `ferryman up`."""

    process: subprocess.Popen[bytes]
    root: Path
    gateway: str = ""
    admin: str = ""

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def output(self) -> str:
        return (self.root / "up.log").read_text(errors="replace")

    @property
    def token(self) -> str:
        return (self.data_dir / "admin-token").read_text().strip()

    def pid_of(self, part: str) -> int:
        """Process id of a part, as `up` printed it."""
        line = next(line for line in self.output.splitlines() if line.startswith(f"  {part} "))
        return int(line.split(" pid ")[1].split()[0])

    def get(self, path: str, *, timeout_s: float = PATIENCE_S) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of a GET at the gateway; -1 when nobody answers."""
        return fetch(urllib.request.Request(self.gateway + path), timeout_s)

    def post_event(self, bucket: str, key: str) -> tuple[int, dict[str, object]]:
        status, _, body = self.ask("/v1/miss-events", token=self.token, order={"bucket": bucket, "key": key})
        return status, json.loads(body or b"{}")

    def ask(
        self, path: str, *, token: str | None, order: dict[str, object] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """A GET at the admin side, or a POST of an order."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = None
        if order is not None:
            headers["Content-Type"], data = "application/json", json.dumps(order).encode()
        return fetch(urllib.request.Request(self.admin + path, data=data, headers=headers), PATIENCE_S)

    def restarted(self, part: str) -> bool:
        """Whether a part was started again."""
        return any(
            '"child_restarted"' in line and f'"child":"{part}"' in line for line in self.output.splitlines()
        )

    def stored(self, bucket: str, key: str) -> bool:
        """Whether the key is in the store, asked past the gateway."""

        async def look() -> bool:
            settings = resolve_running(load_settings(None, env={"FERRYMAN_DATA_DIR": str(self.data_dir)}))
            async with ObjectStore(settings.store, settings.limits) as store:
                return await store.head(bucket, key) is not None

        return asyncio.run(look())

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


def fetch(request: urllib.request.Request, timeout_s: float) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()
    except (OSError, http.client.HTTPException):
        return -1, {}, b""


def ferryman(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "scheduler.cli", *arguments]


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("FERRYMAN_", "AWS_"))}


def running_up(
    root: Path, origin: str, *, bucket: str = "site", extra: Sequence[str] = ()
) -> contextlib.AbstractContextManager[Up]:
    """`ferryman up --origin …` on free ports in `root`; it and all its children end with the block."""
    return running_up_with(root, "--origin", origin, "--bucket", bucket, *extra)


@contextlib.contextmanager
def running_up_with(root: Path, *arguments: str) -> Iterator[Up]:
    """`ferryman up` with these arguments, on free ports in `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with (
        (root / "up.log").open("wb") as log,
        subprocess.Popen(
            ferryman(
                "up", "--data-dir", str(root / "data"), "--gateway-listen", "127.0.0.1:0",
                "--admin-listen", "127.0.0.1:0", *arguments,
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=plain_environment(),
            cwd=root,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- the origin threads hold no lock that it needs
        ) as process,
    ):  # fmt: skip
        up = Up(process, root)
        try:

            def is_up() -> bool:
                assert process.poll() is None, up.output[-4000:]
                return "Ctrl-C stops" in up.output

            until(is_up, "ferryman up is ready", timeout_s=2 * PATIENCE_S)
            for line in up.output.splitlines():
                if line.startswith("Gateway"):
                    up.gateway = line.split()[1].removesuffix("/BUCKET/KEY")
                if line.startswith("Admin"):
                    up.admin = line.split()[1].rstrip("/")
            yield up
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def descendants(pid: int) -> dict[int, str]:
    """All processes below `pid` with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found: dict[int, str] = {}
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found.update({child: command_line(child) for child in level})
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
