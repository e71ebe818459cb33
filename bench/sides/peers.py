"""Programs that do the same: found, run, and measured without their start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from machine import peak_rss_mib

if TYPE_CHECKING:
    from scheduler.config.settings import Settings


def peer(name: str) -> str | None:
    """A peer's binary: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def rclone(
    binary: str, settings: Settings, bucket: str, keys: list[str], origin: str, root: Path, warm: list[str]
) -> dict[str, float]:
    """`rclone copy` of the same keys from the same origin; its start-up is measured on one small object."""
    store = settings.store
    secret = store.secret_access_key.get_secret_value() if store.secret_access_key else ""
    config = root / "rclone.conf"
    config.write_text(
        f"[o]\ntype = http\nurl = {origin}/\n[s]\ntype = s3\nprovider = SeaweedFS\n"
        f"access_key_id = {store.access_key_id}\nsecret_access_key = {secret}\nendpoint = {store.endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nno_check_bucket = true\n"
    )
    files = root / "files.txt"
    command = [
        binary, "--config", str(config), "copy", "o:", f"s:{bucket}", "--files-from-raw", str(files),
        "--no-traverse", "--transfers", "32", "--checkers", "32", "--retries", "1", "--s3-no-head",
    ]  # fmt: skip
    results = []
    for part in (warm[:1], keys):
        files.write_text("\n".join(part) + "\n")
        results.append(run(command))
    return without_start(*results, count=len(keys))


def juicefs(binary: str, settings: Settings, bucket: str, www: Path, count: int) -> dict[str, float]:
    """`juicefs sync` of the same files from the local disk: it has no HTTP source, so it saves every GET."""
    store = settings.store
    secret = store.secret_access_key.get_secret_value() if store.secret_access_key else ""
    where = (
        f"minio://{store.access_key_id}:{secret}@{(store.endpoint or '').removeprefix('http://')}/{bucket}"
    )
    results = []
    for source, target in ((www / "warm", "warm"), (www, "all")):
        command = [
            binary, "sync", "--threads", "32", "--list-threads", "4", "--no-https", "--quiet",
            "--exclude", "warm/**", f"file://{source}/", f"{where}/{target}/",
        ]  # fmt: skip
        results.append(run(command))
    return without_start(*results, count=count)


def run(command: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak RSS in MiB of a peer.

    The peak is read while it runs: what `wait4` tells begins with the size of this process.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, peak_rss_mib([process.pid]))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    process.returncode = status
    if status != 0:
        raise SystemExit(f"{command[0]} ended with {status}")
    return seconds, usage.ru_utime + usage.ru_stime, peak


def without_start(
    idle: tuple[float, float, float], whole: tuple[float, float, float], *, count: int
) -> dict[str, float]:
    """What a peer's run took beyond its run on next to nothing."""
    return {
        "rate": count / (whole[0] - idle[0]),
        "cpu_us": (whole[1] - idle[1]) / count * 1e6,
        "rss": whole[2],
        "seconds": whole[0] - idle[0],
    }
