"""Every row of SEMANTICS.md is named by a test; every row of the regression list has a test of its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
#: Letter of the rows: how many there are.
ROWS = {"F": 62, "U": 36, "H": 11, "A": 37, "S": 17, "B": 11, "L": 15, "W": 17, "D": 24}
REGRESSIONS = 50


@pytest.fixture(scope="module")
def text() -> str:
    """All tests but this one."""
    files = sorted(path for path in TESTS.rglob("*.py") if path.name != Path(__file__).name)
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("letter", ROWS)
def test_every_row_is_named(text, letter):
    named = {int(number) for number in re.findall(rf"(?i)(?<![a-z0-9]){letter}(\d+)(?![0-9])", text)}
    assert sorted(set(range(1, ROWS[letter] + 1)) - named) == []


def test_every_regression_has_a_test_of_its_name(text):
    named = {
        int(number)
        for name in re.findall(r"def test_((?:p\d+_)+)", text)
        for number in re.findall(r"p(\d+)_", name)
    }
    assert sorted(set(range(1, REGRESSIONS + 1)) - named) == []
