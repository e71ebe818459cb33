"""`rclone serve s3` over an empty directory, for the tests: a store that only looks like one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.config.ports import free_ports
from support.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

RCLONE = Path(sys.prefix) / "bin" / "rclone"


@dataclass(frozen=True, slots=True, kw_only=True)
class RcloneS3:
    """Where the server is and how to sign for it."""

    #: `1.75.2` for example.
    version: str
    endpoint: str
    access_key_id: str
    secret_access_key: str


@contextlib.contextmanager
def running_rclone_s3() -> Iterator[RcloneS3]:
    """A fresh, empty store that ends with the block (and with this process, however it ends)."""
    key, secret = "ferryman-test", "ferryman-test-secret"
    with tempfile.TemporaryDirectory(prefix="rclone-s3-") as name, contextlib.ExitStack() as stack:
        home = Path(name)
        (home / "data").mkdir()
        (port,) = free_ports(1)
        endpoint = f"http://127.0.0.1:{port}"
        env = {
            **os.environ,
            "RCLONE_CONFIG": str(home / "rclone.conf"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        stack.enter_context(
            running(
                [
                    str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{port}",
                    "--auth-key", f"{key},{secret}", str(home / "data"),
                ],
                log=home / "rclone.log",
                ready=lambda: _answers(endpoint),
                env=env,
            )
        )  # fmt: skip
        yield RcloneS3(version=_version(), endpoint=endpoint, access_key_id=key, secret_access_key=secret)


def _version() -> str:
    said = subprocess.run(
        [str(RCLONE), "version"], capture_output=True, timeout=30, check=True
    ).stdout.decode()
    found = re.search(r"v(\d+(?:\.\d+)+)", said)
    return found[1] if found else "unknown"


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except (OSError, ValueError):
        return False
