"""`make simulate`: the core under a simulated clock, schedule after schedule, with failures at every await.

make simulate                     5,000 schedules, from a new seed on, on all cores
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
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import workers.lifeline
from simulation.part import KINDS, kind_of, run_part, world_of
from simulation.plants import OF_BUDGETS, OF_THE_GATE, OF_THE_WAY_BACK, PLANTS
from torture.plants import planted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from simulation.part import Part
    from simulation.world import Result

#: Schedules that a process takes at a time.
_A_PART: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until they are over or one is violated: 0, or 1."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, help="instead of a number")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, each with its seeds"
    )
    parser.add_argument("--first", type=int, help="the first seed; each schedule has the next")
    parser.add_argument("--world", choices=KINDS, help="seeds of this one only; of all without")
    parser.add_argument("--seed", type=int, help="only this one, with its events")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug in a copy of the code")
    given = parser.parse_args(arguments)
    if given.plant:
        return _planted(given)
    if given.seed is not None:
        with tempfile.TemporaryDirectory() as spool:
            return _report(world_of(given.seed, Path(spool)).run())
    return _many(given)


def _many(given: argparse.Namespace) -> int:
    first = random.SystemRandom().randrange(1 << 31) if given.first is None else given.first
    began = time.perf_counter()
    seeds = (seed for seed in count(first) if given.world in {None, kind_of(seed)})
    left = seeds if given.minutes else islice(seeds, given.schedules)
    parts = iter(lambda: list(islice(left, _A_PART)), [])
    done, steps, seen = 0, 0, Counter[str]()
    several = given.jobs > 1
    tied = {"initializer": workers.lifeline.die_with_parent, "initargs": (os.getpid(),)}
    with ProcessPoolExecutor(given.jobs, **tied) if several else nullcontext() as pool:
        for part in _side_by_side(pool, parts, given.jobs) if pool else map(run_part, parts):
            done, steps = done + part.done, steps + part.steps
            seen.update(part.answers)
            took = time.perf_counter() - began
            if part.violated is not None:
                print(f"schedule {done}, after {took:.1f} s")
                return _report(part.violated)
            if given.minutes and took > given.minutes * 60:
                break
    print(f"{done} schedules from seed {first} on, {steps} steps in {took:.0f} s: nothing violated")
    print(f"clients saw: {', '.join(f'{name} {number}' for name, number in seen.most_common())}")
    return 0


def _side_by_side(pool: Executor, parts: Iterator[list[int]], jobs: int) -> Iterator[Part]:
    """In the order of the seeds, whoever is done first, so that the first violation is always the same."""
    under_way = deque(pool.submit(run_part, part) for part in islice(parts, 2 * jobs))
    try:
        while under_way:
            yield under_way.popleft().result()
            under_way += [pool.submit(run_part, part) for part in islice(parts, 1)]
    finally:
        for left in under_way:
            left.cancel()


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


def _world_of(plant: str) -> str:
    worlds = {"gate": OF_THE_GATE, "budgets": OF_BUDGETS, "back": OF_THE_WAY_BACK}
    return next((world for world, theirs in worlds.items() if plant in theirs), "core")


def _planted(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tree = planted(given.plant, Path(folder), PLANTS)
        more = [] if given.first is None else ["--first", str(given.first)]
        more += ["--minutes", str(given.minutes)] if given.minutes else ["--schedules", str(given.schedules)]
        path = os.pathsep.join((str(tree), str(Path(__file__).parents[1])))
        more += ["--world", _world_of(given.plant)]
        run = [sys.executable, workers.lifeline.__file__, str(os.getpid()), sys.executable]
        run += ["-m", "simulation", "--jobs", str(given.jobs), *more]
        return subprocess.run(run, cwd=tree, env={**os.environ, "PYTHONPATH": path}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
