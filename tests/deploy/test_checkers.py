"""deploy/ before the checkers of others (tests/gateways.lock): hadolint, compose schema, Kubernetes schemas.

A checker that is not there is skipped, or a failure with FERRYMAN_REQUIRE_REAL=1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import skip_or_fail
from support.kustomize import kustomized

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
#: Of operators, which Kubernetes' own schemas do not know.
FOREIGN = {"ScaledObject", "TriggerAuthentication", "PodMonitor"}


def run(name: str, *arguments: str | Path) -> str:
    """Output of a checker that was content."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        skip_or_fail(f"{name} is not installed")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    assert run("hadolint", DEPLOY / "docker" / "Dockerfile") == ""


def test_compose_yaml_obeys_the_schema_of_the_compose_specification():
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose" / "compose.yaml")


@pytest.mark.parametrize("target", ["base", "overlays/production"])
def test_manifests_obey_kubernetes_schemas_strictly(target, tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(kustomized(DEPLOY / "kubernetes" / target), encoding="utf-8")
    told = run("kubernetes-validate", "--strict", path)
    checked = set(re.findall(r"passed for resource (\w+)/", told))
    unknown = set(re.findall(r"find schema for kind (\w+)", told))
    documents = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    assert unknown <= FOREIGN
    assert checked == {one["kind"].lower() for one in documents if one["kind"] not in FOREIGN}
