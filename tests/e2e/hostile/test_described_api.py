"""A short `make fuzz-api`: schemathesis finds nothing that the document of the admin side does not say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fuzz.api.__main__ import ST
from support.real import skip_or_fail


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_every_operation_answers_valid_and_invalid_input_as_its_document_says():
    if not ST.exists():
        skip_or_fail("schemathesis is not installed: make test-slow installs tests/api.lock")
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.api", "--inputs", "4", "--seed", "1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=850, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "26 selected / 26 total" in done.stdout
