"""What failed, from pytest's JUnit report, in a few lines: of a long log often only the end is kept.

`python digest.py REPORT`; the same complaint of many tests is one line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

MOST_LINES, MOST_WIDTH = 12, 230
#: In a traceback, what was raised.
_RAISED = re.compile(r"^(?:E\s+)?((?:[a-z_0-9]+\.)*[A-Z]\w*: .*)$", re.MULTILINE)


def digest(report: Path) -> list[str]:
    """Complaints, the commonest first: how many tests, what they said, which was the first of them."""
    said: dict[str, list[str]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 -- pytest wrote it
        for bad in case:
            if bad.tag in {"failure", "error"}:
                raised = _RAISED.findall(bad.text or "") if case.get("name") == "internal" else ()
                message = f"{bad.tag}: {' '.join((raised or [bad.get('message', '')])[-1].split())}"
                first = f"{message[:150]} @ {case.get('classname')}::{case.get('name')}"
                said.setdefault(message[:100], []).append(first)
    ordered = sorted(said.values(), key=len, reverse=True)
    lines = [f"{len(firsts)} x {firsts[0]}"[:MOST_WIDTH] for firsts in ordered[:MOST_LINES]]
    return [*lines, f"and {len(ordered) - MOST_LINES} more"] if len(ordered) > MOST_LINES else lines


def machine() -> str:
    """Room and load: a disk or a memory that is full fails tests that are right."""
    memory = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    here, there = (shutil.disk_usage(path).free >> 20 for path in (".", tempfile.gettempdir()))
    return (
        f"free: {here} MiB of disk, {there} where temporary files are, "
        f"{int(memory[1]) >> 10 if memory else '?'} of memory; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    there_is_one = path.exists() and path.stat().st_size
    found = digest(path) if there_is_one else ["no report: pytest was ended from outside"]
    sys.stdout.write("\n".join([*found, machine(), ""]))
