"""`bench/scan.py fleet` and `latency`: scans that are cut, in one process and in two.

`fleet` is without latency, so what counts is the processor: the bare listing by one and two processes beside
it says what there is to be had. `latency` is with pages that take as long as those of real stores. Beside it,
in the same run and from the same server, `rclone check` and `rclone size`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import note
from machine import table
from sides.peers import peer

from scans.beside import CHECK, HEAD, SIZE, lines_of, ratio, rclone, rounds_of, spread
from scans.here import Figures, in_fresh_process, listing, listing_alone

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

#: What is said of a run's cores, and with how many digits.
SHARES = (("cut_s", 1), ("busy", 0), ("own", 0), ("server", 0), ("rest", 0))

#: Shards of a scan that runs in one process and in two.
SHARDS = 8
ONE, TWO = f"{SHARDS} shards, 1 process", f"{SHARDS} shards, 2 processes"
BARE_ONE, BARE_TWO = "listing alone, 1 process", "listing alone, 2 processes"
PAIRS = ((ONE, TWO), (BARE_ONE, BARE_TWO))


def fleet(arguments: argparse.Namespace) -> None:
    """Two processes beside one."""
    keys = arguments.keys
    with listing(keys) as store:
        order: dict[str, Any] = {"keys": keys, "store": store}

        def scanned(processes: int) -> Figures:
            more: dict[str, Any] = {"compare": ["size"], "inventory": {"bucket": "other"}, "shards": SHARDS}
            return in_fresh_process("diff-here", beside=processes - 1, **order, **more)

        runs: dict[str, Callable[[], Figures]] = {
            ONE: lambda: scanned(1),
            TWO: lambda: scanned(2),
            BARE_ONE: lambda: listing_alone(store, keys, 1),
            BARE_TWO: lambda: listing_alone(store, keys, 2),
        }
        found = rounds_of(arguments.rounds, runs)
    for at in range(arguments.rounds):
        two_of_one, floor = (found[two][at]["rate"] / found[one][at]["rate"] for one, two in PAIRS)
        note("scan fleet", two_of_one=two_of_one, floor_two_of_one=floor)
    rows = [HEAD, *lines_of(found, keys)]
    rows += [[f"{two} / 1", "", f"{ratio(found, two, one):.2f}", "", "", "", ""] for one, two in PAIRS]
    print(table(rows))
    print(table(busy_of(found, (ONE, TWO))))


def busy_of(found: dict[str, list[Figures]], names: Sequence[str]) -> list[list[str]]:
    """Who had the cores."""
    head = ["per cent of all cores", "cutting, s", "busy", "own processes", "listing server", "rest"]
    rows = ([name, *(spread(found[name], what, digits) for what, digits in SHARES)] for name in names)
    return [head, *rows]


def latency(arguments: argparse.Namespace) -> None:
    """With a page's latency as real stores have it, on both sides."""
    keys, delay = arguments.keys, arguments.delay_ms
    binary = None if arguments.no_peers else peer("rclone")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, listing(keys, delay) as store:
        order = {"keys": keys, "store": store, "compare": ["size"]}
        two: dict[str, Any] = {"inventory": {"bucket": "other"}, **order}
        runs: dict[str, Callable[[], Figures]] = {
            "listing alone, 1 range": lambda: in_fresh_process("list-here", ranges=1, **order),
            f"listing alone, {arguments.shards} ranges": lambda: in_fresh_process(
                "list-here", ranges=arguments.shards, **order
            ),
            "bucket with bucket, 1 shard": lambda: in_fresh_process("diff-here", shards=1, **two),
            f"{arguments.shards} shards, 1 process": lambda: in_fresh_process(
                "diff-here", shards=arguments.shards, **two
            ),
            f"{arguments.shards} shards, 2 processes": lambda: in_fresh_process(
                "diff-here", beside=1, shards=arguments.shards, **two
            ),
        }
        if binary is not None:
            runs["rclone check --size-only --fast-list"] = lambda: rclone(
                binary, store, keys, Path(name), *CHECK
            )
            runs["rclone size --fast-list"] = lambda: rclone(binary, store, keys, Path(name), *SIZE)
        found = rounds_of(arguments.rounds, runs)
    rows = [HEAD, *lines_of(found, keys)]
    alone, *cut = (name for name in found if "shard" in name)
    for at in range(arguments.rounds):
        note("scan latency", of_one_shard=found[cut[0]][at]["rate"] / found[alone][at]["rate"])
    rows += [[f"{name} / 1 shard", "", f"{ratio(found, name, alone):.1f}", "", "", "", ""] for name in cut]
    print(f"a page of 1,000 keys takes {delay:g} ms")
    print(table(rows))
    print(table(busy_of(found, (alone, *cut))))
