"""The rules' core imports no client library, so that anything may use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENTS = ("aiohttp", "boto3", "botocore", "dramatiq", "httpx", "redis", "starlette", "awscrt")


@pytest.mark.parametrize(
    "module",
    [
        "matching",
        "planning",
        "trying.explain",
        "trying.replay",
        "yaml.document",
        "cos.xml",
        "oss.xml",
        "formats",
        "lint",
    ],
)
def test_a_pure_module_imports_no_client(module: str) -> None:
    code = f"import sys, scheduler.rules.{module}; print(*sorted(set({CLIENTS!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
