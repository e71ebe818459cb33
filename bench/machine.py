"""What the benchmarks share: a static origin, processor time of process trees, tables."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.config.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


NGINX = """
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000; autoindex on;
        client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
        uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
        server {{ listen 127.0.0.1:{port}; root {www}; {more} }} }}
"""


@contextlib.contextmanager
def static_origin(www: Path, root: Path, more: str = "") -> Iterator[str]:
    """nginx over a directory, `more` in its server block; yields its URL."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        raise SystemExit("this benchmark needs nginx as its origin: apt-get install nginx-light")
    (port,) = free_ports(1)
    conf = root / "nginx.conf"
    conf.write_text(NGINX.format(root=root, www=www, port=port, more=more))
    process = subprocess.Popen([nginx, "-c", str(conf), "-e", str(root / "error.log")])
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise SystemExit("nginx did not start: " + (root / "error.log").read_text()) from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for at in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{at}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def own_cpu_s(pid: int) -> float:
    """User and system seconds that one process has spent, without its children; OSError when it is gone.

    By the process's clock, in nanoseconds: /proc counts in ticks of 10 ms, and a small run spends none.
    """
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), CPUCLOCK_SCHED


def cpu_s(pids: list[int]) -> float:
    """User and system seconds that these process trees have spent."""
    total = 0.0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                total += own_cpu_s(pid)
    return total


def peak_rss_mib(pids: list[int]) -> float:
    """The largest peak resident size of any process of these trees."""
    peak = 0.0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM"):
                        peak = max(peak, int(line.split()[1]) / 1024)
    return peak


def describe() -> str:
    day, cores = time.strftime("%Y-%m-%d"), os.cpu_count()
    return f"{day}, {cores} cores, {platform.machine()}, Python {platform.python_version()}"


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join(
        [line(rows[0]), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows[1:])]
    )
