"""`kubectl kustomize`, where a kubectl is there that knows what the manifests say."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: kustomize 5, whose `labels` reach templates.
NEEDED = (1, 27)


def kustomized(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder; the test is skipped without a kubectl of 1.27 or newer."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    told = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
    )
    version = json.loads(told.stdout)["clientVersion"]
    have = (int(version["major"]), int(version["minor"].rstrip("+")))
    if have < NEEDED:
        pytest.skip(f"kubectl {'.'.join(map(str, have))} is too old for these manifests")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
