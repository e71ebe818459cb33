"""No row of the specification that concerns rules is without a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [
    *(f"F{n}" for n in range(1, 61)),
    *(f"U{n}" for n in range(1, 37)),
    *(f"H{n}" for n in range(1, 12)),
    *(f"L{n}" for n in range(1, 9)),
    *(f"D{n}" for n in (1, 2, 3, 4, 7, 8, 9, 10, 12, 14, 15, 16, 17, 18, 21, 22, 23, 24)),
    "W12",
    "W-seed",
    "B11",
]


@pytest.fixture(scope="module")
def named() -> set[str]:
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(HERE.glob("test_*.py")) if path != Path(__file__)
    )
    found = set(re.findall(r"\b[FUHLDWB]\d+\b|W-seed", text))
    return found | {f"{a}{n}" for a, n in re.findall(r"test_([a-z])(\d+)_", text) for a in (a.upper(),)}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_named_by_a_test(row: str, named: set[str]) -> None:
    assert row in named
