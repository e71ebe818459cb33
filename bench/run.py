"""What `make bench` runs: each row that is wanted of Ferryman beside its peer, and single layers by name.

    make bench                                     # every row of wanted.py, in one run: about half an hour
    make bench ARGS="--only move,logs --rounds 7"
    make bench ARGS="--strict --json"              # JSON on stdout, tables on stderr; 1 where a row is missed
    make bench ARGS="--only flat --objects 100000"
    make bench ARGS="--only rules"                 # or `--only all`
    make bench ARGS="--only move -- --count 1000"  # what follows `--` goes to the one script

Prints Markdown. Sides take turns within a run, and a figure is the median over the rounds; figures of
different runs, and of different machines, are not to be compared. Ends with 1 when a script does, and with
`--strict` when a wanted figure is missed or was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from figures import VARIABLE, read, spread
from machine import describe, table
from wanted import Verdict, judge_rows

if TYPE_CHECKING:
    from figures import Figures

HERE = Path(__file__).resolve().parent
LARGE_BYTES = 256 * 1024 * 1024
#: Objects of the run over which the cost of an object must not grow: about two minutes.
FLAT_OBJECTS = 30_000
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One script."""

    heading: str
    script: str
    arguments: tuple[str, ...] = ()
    #: Rows of wanted.py that it measures; such a script takes `--rounds`.
    rows: tuple[str, ...] = ()
    #: It takes `--no-peers`.
    peers: bool = False


RUNS: dict[str, Run] = {
    "move": Run("Small objects, origin to store", "move.py", ("--count", "5000"), ("move",), peers=True),
    "large": Run(
        "Large objects, origin to store",
        "move.py",
        ("--count", "4", "--size", str(LARGE_BYTES)),
        ("large",),
        peers=True,
    ),
    "gateway": Run("The gateway", "gateway.py", (), ("hit", "miss", "miss told", "first byte")),
    "logs": Run("Access logs to events", "logs.py", (), ("logs",)),
    "scan": Run(
        "Comparing listings",
        "scan.py",
        ("diff", "--keys", "1000000"),
        ("scan manifest", "scan buckets"),
        peers=True,
    ),
    "fleet": Run("A scan in two processes", "scan.py", ("fleet",), ("scan fleet",)),
    "latency": Run(
        "Listings with the latency of real stores",
        "scan.py",
        ("latency", "--keys", "1000000"),
        ("scan latency",),
        peers=True,
    ),
    "idle": Run("Workers that have nothing to do", "idle.py", (), ("idle",)),
    "suite": Run("make test", "suite.py", (), ("suite",)),
    "flat": Run("Cost of an object along one run", "move.py", ("--no-peers",)),
    "scanned": Run("Objects through a scan", "scan.py", ("move",), peers=True),
    "origin": Run("GET: the fetch layer beside plain aiohttp", "origin_get.py"),
    "store": Run("PUT: the store layer beside other clients", "store_put.py"),
    "rules": Run("Matching and planning", "rules.py"),
    "control": Run("Balance, health and budgets", "control.py"),
    "back": Run("The way back", "way_back.py"),
    "s3": Run("The S3 front beside the store itself", "s3.py"),
    "tombstones": Run("A million deleted keys", "tombstones.py"),
    "page": Run("The operations page", "page.py"),
}
#: What is wanted of: every row of wanted.py.
DEFAULT = tuple(name for name, run in RUNS.items() if run.rows)


def arguments(name: str, given: argparse.Namespace) -> list[str]:
    """A run's own arguments; `--objects` replaces the count of the runs over small objects."""
    run = RUNS[name]
    found = list(run.arguments)
    if name == "flat":
        count = given.objects or FLAT_OBJECTS
        found += ["--count", str(count), "--part", str(max(1000, count // 10))]
    if name == "move" and given.objects:
        found += ["--count", str(given.objects)]
    if run.rows and name != "suite":
        found += ["--rounds", str(given.rounds)]
    if given.no_peers and run.peers:
        found.append("--no-peers")
    return [*found, *given.further]


def carry_out(name: str, given: argparse.Namespace, figures: Path) -> bool:
    """Run one script; whether it ended well. With `--json` its tables go to stderr."""
    run = RUNS[name]
    told = sys.stderr if given.json else sys.stdout
    line = arguments(name, given)
    print(f"\n## {run.heading}\n\n`{' '.join([f'bench/{run.script}', *line])}`\n", file=told, flush=True)
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, str(HERE / run.script), *line],
        check=False,
        stdout=told,
        # The embedded servers and peers are found beside this Python, the project above this directory.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            VARIABLE: str(figures),
        },
    )
    print(f"\n{time.perf_counter() - began:.0f} s", file=told, flush=True)
    return ended.returncode == 0


def as_table(verdicts: list[Verdict]) -> str:
    """Wanted figures beside what was measured."""
    rows = [["what", "measured, median (lowest to highest)", "wanted", "floor", ""]]
    for one in verdicts:
        digits = one.wanted.digits
        rows.append([
            one.wanted.what,
            spread(list(one.readings), digits) if one.readings else "",
            one.wanted.bound,
            spread(list(one.floor), digits) if one.floor else "",
            one.word,
        ])  # fmt: skip
    return table(rows)


def as_document(
    verdicts: list[Verdict], figures: Figures, failed: list[str], rounds: int
) -> dict[str, object]:
    """All of a run as one JSON document."""
    return {
        "machine": describe(),
        "rounds": rounds,
        "failed": failed,
        "figures": {
            row: {
                name: {
                    "median": median(one), "lowest": min(one), "highest": max(one), "rounds": one,
                }
                for name, one in values.items()
            }
            for row, values in figures.items()
        },
        "wanted": [
            {
                "row": one.wanted.row, "value": one.wanted.value, "what": one.wanted.what,
                "at_least": one.wanted.at_least, "at_most": one.wanted.at_most,
                "measured": median(one.readings) if one.readings else None,
                "floor": median(one.floor) if one.floor else None,
                "verdict": one.word,
            }
            for one in verdicts
        ],
    }  # fmt: skip


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"of {', '.join(RUNS)}; or all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each side; default: 5")
    parser.add_argument("--objects", type=int, help="small objects of move and flat")
    parser.add_argument("--no-peers", action="store_true", help="Ferryman alone where a peer is a program")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout, tables on stderr")
    parser.add_argument("--strict", action="store_true", help="end with 1 when a wanted figure is missed")
    parser.add_argument("further", nargs="*", help="after --: arguments of the one script")
    given = parser.parse_args(argv)
    given.names = list(RUNS) if given.only == "all" else [name for name in given.only.split(",") if name]
    unknown = [name for name in given.names if name not in RUNS]
    if unknown or not given.names:
        parser.error(f"--only: {', '.join(unknown) or 'nothing'} is none of {', '.join(RUNS)}, all")
    if given.further and len(given.names) > 1:
        parser.error("arguments after -- need one --only")
    if given.rounds < 1:
        parser.error(f"--rounds: {given.rounds}; at least 1")
    return given


def main() -> int:
    given = parsed()
    with tempfile.TemporaryDirectory(prefix="bench-figures-") as directory:
        path = Path(directory) / "figures.jsonl"
        failed = [name for name in given.names if not carry_out(name, given, path)]
        figures = read(path)
    rows = frozenset(row for name in given.names for row in RUNS[name].rows)
    verdicts = judge_rows(rows, figures)
    if verdicts:
        print(f"\n## What is wanted\n\n{describe()}, {given.rounds} rounds\n\n{as_table(verdicts)}",
              file=sys.stderr if given.json else sys.stdout)  # fmt: skip
    if given.json:
        print(json.dumps(as_document(verdicts, figures, failed, given.rounds), indent=1))
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    missed = [one for one in verdicts if not one.passes]
    if missed and given.strict:
        print(f"\nMissed: {'; '.join(one.wanted.what for one in missed)}", file=sys.stderr)
    return 1 if failed or (missed and given.strict) else 0


if __name__ == "__main__":
    sys.exit(main())
