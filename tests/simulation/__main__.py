"""`make simulate`: the core under a simulated clock, schedule after schedule, with failures at every await.

make simulate                     1,000 schedules, from a new seed on
make simulate MINUTES=10          for so long
make simulate SEED=7              that schedule again, with its last events
make simulate ARGS="--plant NAME" a bug in a copy of the code, to see that it is found
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from simulation.plants import PLANTS
from simulation.world import World
from torture.plants import planted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulation.world import Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until they are over or one is violated: 0, or 1."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, help="instead of a number")
    parser.add_argument("--first", type=int, help="the first seed; each schedule has the next")
    parser.add_argument("--seed", type=int, help="only this one, with its events")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug in a copy of the code")
    given = parser.parse_args(arguments)
    if given.plant:
        return _planted(given)
    first = random.SystemRandom().randrange(1 << 31) if given.first is None else given.first
    began, seen, steps, done = time.perf_counter(), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as spool:
        if given.seed is not None:
            return _report(World(given.seed, Path(spool)).run())
        while (given.minutes and time.perf_counter() - began < given.minutes * 60) or (
            not given.minutes and done < given.schedules
        ):
            result = World(first + done, Path(spool)).run()
            done, steps = done + 1, steps + result.steps
            seen.update(result.answers)
            if result.violations:
                print(f"schedule {done}, after {time.perf_counter() - began:.1f} s")
                return _report(result)
    took = time.perf_counter() - began
    print(f"{done} schedules from seed {first} on, {steps} steps in {took:.0f} s: nothing violated")
    print(f"clients saw: {', '.join(f'{name} {number}' for name, number in seen.most_common())}")
    return 0


def _report(result: Result) -> int:
    print("the last events:")
    print("\n".join(result.events))
    if not result.violations:
        print(f"seed {result.seed}: nothing violated in {result.steps} steps")
        return 0
    print(f"VIOLATED, seed {result.seed}:")
    print("\n".join(f"  {one}" for one in result.violations))
    print(f"again: make simulate SEED={result.seed}")
    return 1


def _planted(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tree = planted(given.plant, Path(folder), PLANTS)
        more = [] if given.first is None else ["--first", str(given.first)]
        more += ["--minutes", str(given.minutes)] if given.minutes else ["--schedules", str(given.schedules)]
        path = os.pathsep.join((str(tree), str(Path(__file__).parents[1])))
        run = [sys.executable, "-m", "simulation", *more]
        return subprocess.run(run, cwd=tree, env={**os.environ, "PYTHONPATH": path}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
