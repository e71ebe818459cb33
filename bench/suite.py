"""How long `make test` takes, once.

.venv/bin/python bench/suite.py [--command "make test JOBS=2"]
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from pathlib import Path

from figures import note
from machine import describe

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", default="make test")
    command = parser.parse_args().command
    began = time.perf_counter()
    ended = subprocess.run(shlex.split(command), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    minutes = (time.perf_counter() - began) / 60
    print(ended.stdout.strip().rpartition("\n")[2])
    if ended.returncode != 0:
        raise SystemExit(f"{command} ended with {ended.returncode}")
    print(f"{command}: {minutes:.2f} minutes; {describe()}")
    note("suite", minutes=minutes)


if __name__ == "__main__":
    main()
