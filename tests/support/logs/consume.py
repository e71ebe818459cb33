"""`ferryman consume` as a process, over a real Redis, with nobody who empties the queue."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import yaml

from support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def write_config(directory: Path, url: str, *, consume=(), buckets=None) -> Path:
    """A config.yaml whose store is never asked."""
    config = directory / "config.yaml"
    config.write_text(
        yaml.safe_dump({
            "data_dir": str(directory / "data"),
            "broker": {"url": url, "namespace": "t", "max_queue_depth": 1_000_000},
            "store": {"endpoint": "http://127.0.0.1:9", "access_key_id": "k", "secret_access_key": "s"},
            "buckets": buckets or {"site": {"rules": [{"origins": ["http://o.example"]}]}},
            "consume": list(consume),
        })
    )  # fmt: skip
    return config


@contextlib.contextmanager
def consuming(config: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """The process; killed at the end when it still runs."""
    output = (config.parent / "consume.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "scheduler.cli", "consume", "--config", str(config), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        output.close()


def until(condition: Callable[[], bool], what: str, *, seconds: float = PATIENCE_S) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)
