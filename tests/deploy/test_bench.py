"""Every benchmark runs, with counts so small that its figures say nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

BENCH = Path(__file__).parents[2] / "bench"
#: Script and arguments of a run of seconds.
TINY = {
    "move": ("move.py", "--count", "40", "--no-peers"),
    "large": ("move.py", "--count", "1", "--size", "9000000", "--no-peers"),
    "origin": ("origin_get.py", "--objects", "40", "--rounds", "1", "--limit", "1000"),
    "store": ("store_put.py", "--count", "40"),
    "rules": ("rules.py", "--requests", "200"),
    "control": ("control.py",),
    "logs": (
        "logs.py",
        "--lines",
        "3000",
        "--events",
        "200",
        "--rounds",
        "1",
        "--format-lines",
        "300",
    ),
    "idle": ("idle.py", "--rounds", "1", "--seconds", "1"),
    "suite": ("suite.py", "--command", "true"),
    "gateway": ("gateway.py", "--seconds", "0.5", "--rounds", "1", "--objects", "30", "--idle", "20"),
    "back": ("way_back.py", "--puts", "20", "--rounds", "1", "--count", "100"),
    "s3": ("s3.py", "--objects", "20", "--rounds", "1", "--large-mib", "4"),
    "tombstones": ("tombstones.py", "--keys", "2000", "--misses", "50"),
    "page": (
        "page.py",
        "--failures",
        "2000",
        "--pages",
        "3",
        "--seconds",
        "1",
        "--rounds",
        "1",
        "--rate",
        "20",
    ),
    "scan diff": ("scan.py", "diff", "--keys", "2000", "--no-peers"),
    "scan fleet": ("scan.py", "fleet", "--keys", "3000", "--no-peers"),
    "scan latency": (
        "scan.py",
        "latency",
        "--keys",
        "3000",
        "--delay-ms",
        "5",
        "--shards",
        "3",
        "--no-peers",
    ),
    "scan history": ("scan.py", "history", "--scans", "2000", "--rounds", "2"),
    "scan move": ("scan.py", "move", "--count", "60", "--no-peers"),
}


def ran(*command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCH.parent), str(BENCH)])}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs_and_prints_figures(name):
    script, *arguments = TINY[name]
    done = ran(BENCH / script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    assert any(sign.isdigit() for sign in done.stdout)


def test_processor_time_of_another_process_is_seen_below_a_tick_of_the_kernel():
    ask = "import machine, os, time; print(machine.own_cpu_s(os.getppid()))"
    before = time.process_time()
    seen = float(ran("-c", ask).stdout)
    after = time.process_time()
    assert before <= seen <= after


def test_every_run_of_make_bench_is_tried_here_and_its_arguments_are_known():
    sys.path.insert(0, str(BENCH))
    try:
        from run import RUNS, arguments, parsed
    finally:
        sys.path.remove(str(BENCH))
    # The same scripts and ways as others.
    tried = {name.partition(" ")[0] for name in TINY} | {"flat", "scanned", "latency", "fleet"}
    assert set(RUNS) == tried
    for name, run in RUNS.items():
        told = ran(BENCH / run.script, *arguments(name, parsed(["--only", name])), "--help")
        assert told.returncode == 0, told.stderr


def test_figures_come_as_json_and_strict_ends_with_1_where_one_is_missed():
    done = ran(
        BENCH / "run.py", "--only", "move", "--rounds", "2", "--no-peers", "--json", "--strict", "--",
        "--count", "40",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert len(document["figures"]["move"]["ferryman_rate"]["rounds"]) == 2
    wanted = {one["value"]: one["verdict"] for one in document["wanted"]}
    assert wanted == {"rate_ratio": "unmeasured", "cpu_ratio": "unmeasured"}, (
        "without rclone there is no ratio"
    )
    assert "objects/s" in done.stderr
