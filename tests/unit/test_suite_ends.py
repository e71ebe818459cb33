"""The programs of the suite that run for hours: whoever kills one has nothing of it left over."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from support.installation import alive
from support.patience import PATIENCE_S

TESTS = Path(__file__).parents[1]
#: As far as `fuzz.guided` needs it.
ATHERIS = textwrap.dedent("""
    import contextlib, time

    instrument_imports = lambda **_: contextlib.nullcontext()
    Setup = lambda *_: None
    Fuzz = lambda: time.sleep(180)
""")
HARD_TO_FIND = "whoever stood still asks whether he still may"
PROGRAMS = {
    "fuzz, guided": ["-m", "fuzz", "--target", "dates", "--minutes", "3"],
    "simulation": ["-m", "simulation", "--jobs", "2", "--minutes", "3"],
    "simulation of a plant": ["-m", "simulation", "--jobs", "2", "--minutes", "3", "--plant", HARD_TO_FIND],
}


def _below(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in _below(child)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_outlives_a_program_of_the_suite_that_is_killed(tmp_path, name):
    (tmp_path / "atheris.py").write_text(ATHERIS)
    path = os.pathsep.join((str(tmp_path), str(TESTS), str(TESTS.parent)))
    with subprocess.Popen(
        [sys.executable, *PROGRAMS[name]], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as program:  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not (left := _below(program.pid)):
            assert program.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it started nothing"
            time.sleep(0.02)
        program.kill()
    while any(alive(pid) for pid in left):
        assert time.monotonic() < deadline, "a child outlived its parent"
        time.sleep(0.02)
