"""Beside scans: rclone on the same listings, and tables of alternating rounds."""

from __future__ import annotations

import os
import subprocess
import time
from statistics import median
from typing import TYPE_CHECKING

from scans.here import KIB_IN_MIB, Figures, Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHECK = ("check", "s:one", "s:two", "--size-only")
SIZE = ("size", "s:one")
HEAD = ["what", "keys", "keys/s", "reading, s", "all, s", "CPU µs/key", "peak RSS MiB"]


def rclone(binary: str, server: Server, keys: int, root: Path, *command: str) -> Figures:
    """A command of rclone on the same listings."""
    endpoint = server.url
    config = root / "rclone.conf"
    config.write_text(
        f"[s]\ntype = s3\nprovider = Other\naccess_key_id = a\nsecret_access_key = b\nendpoint = {endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nlist_version = 2\nlist_url_encode = true\n"
    )
    whole = [binary, "--config", str(config), *command, "--fast-list", "--log-level", "ERROR"]
    began = time.perf_counter()
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"rclone {command[0]} ended with {status}")
    cpu_us = (usage.ru_utime + usage.ru_stime) / keys * 1e6
    return {
        "rate": keys / seconds, "seconds": seconds, "cpu_us": cpu_us, "rss": usage.ru_maxrss / KIB_IN_MIB,
    }  # fmt: skip


def rounds_of(number: int, runs: dict[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Each run so many times; who is first changes with the round."""
    names = list(runs)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for at in range(number):
        for name in names[at % len(names) :] + names[: at % len(names)]:
            found[name].append(runs[name]())
    return found


def spread(rounds: list[Figures], name: str, digits: int = 0) -> str:
    values = [one[name] for one in rounds if one.get(name)]
    if not values:
        return ""
    middle = f"{median(values):,.{digits}f}"
    return (
        middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    )


def ratio(found: dict[str, list[Figures]], one: str, other: str) -> float:
    """Median over the rounds of one rate as a multiple of another."""
    return median(a["rate"] / b["rate"] for a, b in zip(found[one], found[other], strict=True))


def lines_of(found: dict[str, list[Figures]], keys: int) -> list[list[str]]:
    return [
        [name, f"{keys:,}", spread(rounds, "rate"), spread(rounds, "read_s", 1), spread(rounds, "seconds", 1),
         spread(rounds, "cpu_us", 1), spread(rounds, "rss")]
        for name, rounds in found.items()
    ]  # fmt: skip
