"""What `make bench` runs: Ferryman beside its peers, and the benchmarks of single layers by name.

    make bench                                     # move, large and flat
    make bench ARGS="--only flat --objects 100000"
    make bench ARGS="--only rules,logs"            # or `--only all`
    make bench ARGS="--only move -- --count 1000"  # what follows `--` goes to the one script

Prints Markdown. Every comparison is made within one run of one script; numbers of different runs, and of
different machines, are not to be compared. Ends with 1 when a script does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LARGE_BYTES = 256 * 1024 * 1024
#: Objects of the run over which the cost of an object must not grow: about two minutes.
FLAT_OBJECTS = 30_000

#: Name -> heading, script, arguments.
RUNS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "move": ("Small objects, origin to store", "move.py", ("--count", "5000", "--juicefs")),
    "large": (
        "Large objects, origin to store",
        "move.py",
        ("--count", "4", "--size", str(LARGE_BYTES), "--juicefs"),
    ),
    "flat": ("Cost of an object along one run", "move.py", ("--no-peers",)),
    "origin": ("GET: the fetch layer beside plain aiohttp", "origin_get.py", ()),
    "store": ("PUT: the store layer beside other clients", "store_put.py", ()),
    "rules": ("Matching and planning", "rules.py", ()),
    "control": ("Balance, health and budgets", "control.py", ()),
    "logs": ("Access logs to events", "logs.py", ()),
    "gateway": ("The gateway", "gateway.py", ()),
    "back": ("The way back", "way_back.py", ()),
    "s3": ("The S3 front beside the store itself", "s3.py", ()),
    "tombstones": ("A million deleted keys", "tombstones.py", ()),
    "page": ("The operations page", "page.py", ()),
    "idle": ("Workers that have nothing to do", "idle.py", ()),
    "scan": ("Listing, joining, scanning", "scan.py", ()),
}
DEFAULT = ("move", "large", "flat")


def arguments(name: str, objects: int | None) -> tuple[str, ...]:
    """A run's own arguments; `objects` replaces the count of the runs over small objects."""
    fixed = RUNS[name][2]
    if name == "flat":
        count = objects or FLAT_OBJECTS
        return (*fixed, "--count", str(count), "--part", str(max(1000, count // 10)))
    if name == "move" and objects:
        return (*fixed, "--count", str(objects))
    return fixed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"of {', '.join(RUNS)}; or all")
    parser.add_argument("--objects", type=int, help="small objects of move and flat")
    parser.add_argument("--no-peers", action="store_true", help="Ferryman alone in move and large")
    parser.add_argument("further", nargs="*", help="after --: arguments of the one script")
    args = parser.parse_args()
    names = list(RUNS) if args.only == "all" else [name for name in args.only.split(",") if name]
    unknown = [name for name in names if name not in RUNS]
    if unknown or not names:
        parser.error(f"--only: {', '.join(unknown) or 'nothing'} is none of {', '.join(RUNS)}, all")
    if args.further and len(names) > 1:
        parser.error("arguments after -- need one --only")
    failed = []
    for name in names:
        heading, script, _ = RUNS[name]
        given = [*arguments(name, args.objects), *args.further]
        if args.no_peers and script in {"move.py", "scan.py"}:
            given = [*(one for one in given if one != "--juicefs"), "--no-peers"]
        line = " ".join([f"bench/{script}", *given])
        print(f"\n## {heading}\n\n`{line}`\n", flush=True)
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, str(HERE / script), *given],
            check=False,
            # The embedded servers and peers are found beside this Python, the project above this directory.
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        )
        print(f"\n{time.perf_counter() - began:.0f} s", flush=True)
        if ended.returncode != 0:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
