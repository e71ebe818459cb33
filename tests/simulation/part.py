"""Some schedules, one after the other, in whichever process has time for them."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from simulation.back import BackWorld
from simulation.budgets import BudgetWorld
from simulation.gate import GateWorld
from simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulation.world import Result

#: Kinds of worlds, by the remainder of their seed; all others are of the core.
_WORLDS: Final[dict[int, tuple[str, type[World]]]] = {
    3: ("back", BackWorld), 5: ("gate", GateWorld), 7: ("budgets", BudgetWorld),
}  # fmt: skip
_OF: Final = 8
KINDS: Final = ("core", *(name for name, _ in _WORLDS.values()))


def kind_of(seed: int) -> str:
    """Which world a seed makes, of `KINDS`."""
    return _WORLDS.get(seed % _OF, ("core", World))[0]


def world_of(seed: int, spool: Path) -> World:
    """The world of a seed."""
    return _WORLDS.get(seed % _OF, ("core", World))[1](seed, spool)


class Part(NamedTuple):
    """What came of some seeds that follow each other, up to the first violation."""

    done: int
    steps: int
    answers: Counter[str]
    violated: Result | None


def run_part(seeds: Iterable[int]) -> Part:
    """Run the schedules of these seeds."""
    seen, steps, done = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as spool:
        for seed in seeds:
            result = world_of(seed, Path(spool)).run()
            done, steps = done + 1, steps + result.steps
            seen.update(result.answers)
            if result.violations:
                return Part(done, steps, seen, result)
    return Part(done, steps, seen, None)
