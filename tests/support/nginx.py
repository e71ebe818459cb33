"""Debian's nginx before a gateway, handing bodies on as they come: the worst case for two readers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from scheduler.config.ports import free_ports
from support.real import skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def nginx_before(front: int, folder: Path) -> Iterator[int]:
    """Its port, while it runs before the gateway at port `front`; connections to that one are kept.

    `Host` goes on as it came, and header names with underscores as well.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        skip_or_fail("nginx is not installed (apt-get install nginx-light)")
    port = free_ports(1)[0]
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; {temporary}\n"
        f"upstream front {{ server 127.0.0.1:{front}; keepalive 8; }}\n"
        f"server {{ listen 127.0.0.1:{port}; underscores_in_headers on;\n"
        "location / { proxy_pass http://front; proxy_http_version 1.1; proxy_request_buffering off;\n"
        'proxy_set_header Host $http_host; proxy_set_header Connection ""; } } }\n',
        encoding="utf-8",
    )
    with subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as process:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
