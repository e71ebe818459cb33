"""Real servers in tests: skipped on a laptop that lacks them, a failure in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def real_is_required() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get("FERRYMAN_REQUIRE_REAL") == "1" or os.environ.get("CI", "").lower() == "true"


def skip_or_fail(reason: str) -> NoReturn:
    """Skip on a laptop, fail in CI: a check that silently did not run is no check."""
    if real_is_required():
        pytest.fail(reason)
    pytest.skip(reason)
