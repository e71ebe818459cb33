"""The systemd units: hardened, and accepted by systemd itself where it is there."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.machine.processes import GRACE_S
from support.real import skip_or_fail
from workers.settings import LimitSettings

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))


def options(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(path.read_text(encoding="utf-8"))
    return dict(parser["Service"])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_hardened_and_may_drain(path):
    service = options(path)
    for name, value in {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "CapabilityBoundingSet": "", "User": "ferryman",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "SystemCallArchitectures": "native",
    }.items():  # fmt: skip
        assert service[name] == value, name
    assert int(service["TimeoutStopSec"]) > LimitSettings().drain_s + GRACE_S
    assert service["StateDirectory"] == "ferryman"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_little_that_a_unit_leaves_open(path, tmp_path):
    """Exposure of at most 2.0 of 10, by systemd's own count."""
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed")
    unit = tmp_path / path.name.replace("@.", "@hot.")
    shutil.copy(path, unit)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_systemd_accepts_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed")
    ferryman = Path(sys.executable).parent / "ferryman"
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace("/opt/ferryman/.venv/bin/ferryman", str(ferryman))
        (tmp_path / path.name.replace("@.", "@hot.")).write_text(text)
    shutil.copy(UNITS[0].parent / "ferryman.target", tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if "ferryman" in line]
    assert (done.returncode, told) == (0, [])
