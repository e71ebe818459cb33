"""Figures of a benchmark as data: `run.py` names a file, and scripts add to it round by round.

One JSON object a line: the row of the table, and its values of one round. A script that is run by itself
prints its tables and writes nothing.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from statistics import median

#: Names the file.
VARIABLE = "FERRYMAN_BENCH_FIGURES"

#: Row -> value -> one reading a round.
Figures = dict[str, dict[str, list[float]]]


def note(row: str, **values: float) -> None:
    """One round's reading of a row of `wanted.py`."""
    where = os.environ.get(VARIABLE)
    if where:
        with Path(where).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"row": row, "values": values}) + "\n")


def read(path: Path) -> Figures:
    """All readings of a file, in the order of their rounds."""
    found: Figures = defaultdict(lambda: defaultdict(list))
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        told = json.loads(line)
        for name, value in told["values"].items():
            found[told["row"]][name].append(float(value))
    return {row: dict(values) for row, values in found.items()}


def spread(readings: list[float], digits: int = 2) -> str:
    """Median, lowest and highest of the rounds, for a table."""
    middle = f"{median(readings):,.{digits}f}"
    if len(readings) == 1:
        return middle
    return f"{middle} ({min(readings):,.{digits}f} to {max(readings):,.{digits}f})"
