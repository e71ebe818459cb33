"""`bench/scan.py diff`: what a key costs where a listing is compared, in one process and without latency.

Beside it, in the same run and from the same server, `rclone check`.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import note
from machine import table
from sides.listing_server import key_of, size_of
from sides.peers import peer

from scans.beside import CHECK, HEAD, lines_of, ratio, rclone, rounds_of
from scans.here import Figures, in_fresh_process, listing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def write_manifest(path: Path, keys: int, *, shuffled: bool) -> None:
    numbers: Any = range(keys)
    if shuffled:
        numbers = list(numbers)
        random.Random(1).shuffle(numbers)
    with path.open("w") as file:
        file.write("key,size\n")
        for at in range(0, keys, 100_000):
            file.writelines(f"{key_of(n)},{size_of(n)}\n" for n in numbers[at : at + 100_000])


def note_wanted(found: dict[str, list[Figures]]) -> None:
    """The rows of wanted.py, round by round."""
    for one in found["manifest in order"]:
        note("scan manifest", keys_per_s=one["rate"], cpu_us=one["cpu_us"])
    theirs = found.get("rclone check --size-only --fast-list", [])
    for at, one in enumerate(found["bucket with bucket"]):
        note("scan buckets", keys_per_s=one["rate"], cpu_us=one["cpu_us"])
        if theirs:
            note("scan buckets", of_rclone=one["rate"] / theirs[at]["rate"])


def diff(arguments: argparse.Namespace) -> None:
    """Without latency: what a key costs."""
    rows = [HEAD]
    binary = None if arguments.no_peers else peer("rclone")
    for keys in arguments.keys:
        with tempfile.TemporaryDirectory(prefix="bench-") as name, listing(keys) as store:
            root = Path(name)
            order = {"keys": keys, "store": store, "compare": ["size"]}

            def manifest(
                which: str, order: dict[str, Any] = order, root: Path = root
            ) -> Callable[[], Figures]:
                inventory = {"manifest": str(root / which)}
                return lambda: in_fresh_process("diff-here", inventory=inventory, **order)

            write_manifest(root / "ordered.csv", keys, shuffled=False)
            runs = {"manifest in order": manifest("ordered.csv")}
            if keys == min(arguments.keys):
                write_manifest(root / "shuffled.csv", keys, shuffled=True)
                runs["manifest shuffled"] = manifest("shuffled.csv")
                runs["bucket with bucket"] = lambda order=order: in_fresh_process(
                    "diff-here", inventory={"bucket": "other"}, **order
                )
                if binary is not None:
                    runs["rclone check --size-only --fast-list"] = lambda store=store, keys=keys, root=root: (
                        rclone(binary, store, keys, root, *CHECK)
                    )
            found = rounds_of(arguments.rounds, runs)
            rows += lines_of(found, keys)
            if keys == min(arguments.keys):
                note_wanted(found)
            if "rclone check --size-only --fast-list" in found:
                times = ratio(found, "bucket with bucket", "rclone check --size-only --fast-list")
                rows.append(["bucket with bucket / rclone check", "", f"{times:.2f}", "", "", "", ""])
    print(table(rows))
