"""A test that fails with odd bytes is a failed test, not the end of all tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from support import reports


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("a\udc80ü", "a\\udc80ü"),
        ({"k\ud800": ["\udcff", 1, None]}, {"k\\ud800": ["\\udcff", 1, None]}),
        (("a", {"b": b"\xff"}), ("a", {"b": b"\xff"})),
        ({"a"}, "{'a'}"),
    ],
)
def test_what_is_sent_is_text_and_plain_values(value, sent):
    assert reports.sendable(value) == sent


def test_a_test_that_fails_with_half_a_surrogate_is_named(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_report_to_serializable\n")
    odd = "def test_odd():\n    assert 0, chr(0xDC80)\n\n\ndef test_even():\n    assert 1\n"
    (tmp_path / "test_odd.py").write_text(odd)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-c", os.devnull, "-p", "no:cacheprovider", tmp_path],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(("tests", ".", *sys.path)), "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    assert "1 failed, 1 passed" in run.stdout
    assert re.search(r"^FAILED .*test_odd\.py::test_odd\b", run.stdout, re.MULTILINE)
