"""A short `make endurance`: it measures what it says, and nothing is wrong or grows beyond its bound."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(420)
def test_mixed_traffic_for_a_while_grows_nothing_beyond_its_bound():
    done = subprocess.run(
        [sys.executable, "bench/endurance.py", "--minutes", "1", "--share", "0.5", "--busy"],
        cwd=ROOT, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for what in ("memory of front", "memory of worker hot", "descriptors of front", "redis memory",
                 "disk of data_dir"):  # fmt: skip
        row = next((line for line in done.stdout.splitlines() if line.startswith(what)), None)
        assert row is not None, done.stdout
        assert re.search(r"[+-][\d.,]+ +\+[\d.,]+ .*ok$", row), row
    assert "latency of a hit, median" in done.stdout
    assert "begun late" in done.stdout
