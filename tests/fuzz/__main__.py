"""`make fuzz`: every reader of strangers' bytes, with inputs that are made to hurt.

make fuzz                                 20,000 inputs each, a new seed
make fuzz INPUTS=1000000 SEED=7           more of them
make fuzz TARGET=redirects MINUTES=10     one target, for a time
make fuzz TARGET=redirects INPUT=file     one input again
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import workers.lifeline
from fuzz.mutate import Mutator
from fuzz.target import Crash
from fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.target import Target

#: Address space of a process that fuzzes without atheris, which has its own bound.
_MEMORY_BYTES = 3 << 30
#: More inputs than there is time for; libFuzzer counts them in 32 bits.
_WITHOUT_END = (1 << 31) - 1
_RAN = re.compile(r"number_of_executed_units: +(\d+)")
_LEARNED = re.compile(r"new_units_added: +(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the inputs or the time are over, or something breaks: 0, or 1."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="one of them; several times"
    )
    parser.add_argument("--inputs", type=int, default=20_000, help="for each target")
    parser.add_argument("--minutes", type=float, help="for each target, instead of a number of inputs")
    parser.add_argument("--seed", type=int, help="of the inputs")
    parser.add_argument("--input", type=Path, help="a file: this one input again, with its traceback")
    parser.add_argument(
        "--blind", action="store_true", help="without coverage, as where atheris is not to be had"
    )
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where inputs that break go")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # what libraries say of odd inputs
    targets = [TARGETS[name] for name in given.target or TARGETS]
    if given.input is not None:
        for target in targets:
            print(f"{target.name}: {'taken' if target.try_one(given.input.read_bytes()) else 'refused'}")
        return 0
    guided = not given.blind and importlib.util.find_spec("atheris") is not None
    seed = random.SystemRandom().randrange(1, 1 << 31) if given.seed is None else given.seed
    how = "guided by coverage" if guided else "blind: atheris is not installed, or not wanted"
    print(f"seed {seed}, {how}", flush=True)
    if not guided:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    broken = 0
    for target in targets:
        if not target.can_run:
            print(f"{target.name}: left out, as {target.needs} is not installed", flush=True)
            continue
        inputs = given.inputs if given.minutes is None else _WITHOUT_END
        run = _guided if guided else _blind
        broken += run(target, inputs, (given.minutes or 0) * 60, seed, given.found)
    return 1 if broken else 0


def _blind(target: Target, inputs: int, seconds: float, seed: int, found: Path) -> int:
    make = Mutator(f"{seed}/{target.name}", target.seeds, target.words, max_bytes=target.max_bytes)
    began = time.monotonic()
    done = taken = 0
    while done < inputs and (not seconds or time.monotonic() - began < seconds):
        data = make()
        try:
            if target.try_one(data):
                taken += 1
                make.learn(data)
        except Crash as error:
            print(f"{error}\ninput: {target.keep(data, found)}", flush=True)
            return 1
        done += 1
    _say(target, done, time.monotonic() - began, f"{taken} taken")
    return 0


def _guided(target: Target, inputs: int, seconds: float, seed: int, found: Path) -> int:
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, workers.lifeline.__file__, str(os.getpid()),
            sys.executable, "-m", "fuzz.guided", target.name, *map(str, (inputs, int(seconds), seed, found)),
        ],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    ran, learned = _RAN.search(said), _LEARNED.search(said)
    if done.returncode == 0 and ran is not None:
        _say(
            target,
            int(ran[1]),
            time.monotonic() - began,
            f"{learned[1] if learned else '?'} reached new code",
        )
        return 0
    print(f"{target.name}: {said[-6000:]}", flush=True)
    return 1


def _say(target: Target, done: int, took_s: float, more: str) -> None:
    print(
        f"{target.name:24} {done:>9} inputs in {took_s:6.1f} s, {done / max(took_s, 0.001):>8.0f}/s, {more}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
