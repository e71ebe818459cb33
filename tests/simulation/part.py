"""Some schedules, one after the other, in whichever process has time for them."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulation.world import World

if TYPE_CHECKING:
    from simulation.world import Result


class Part(NamedTuple):
    """What came of some seeds that follow each other, up to the first violation."""

    done: int
    steps: int
    answers: Counter[str]
    violated: Result | None


def run_part(seeds: range) -> Part:
    """Run the schedules of these seeds."""
    seen, steps = Counter[str](), 0
    with tempfile.TemporaryDirectory() as spool:
        for done, seed in enumerate(seeds, 1):
            result = World(seed, Path(spool)).run()
            steps += result.steps
            seen.update(result.answers)
            if result.violations:
                return Part(done, steps, seen, result)
    return Part(len(seeds), steps, seen, None)
