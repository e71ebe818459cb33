"""docs/: generated pages are current, links lead somewhere, and tests that are named exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.config.load import load_settings
from scheduler.config.settings import Settings
from scheduler.logs.open import input_specs
from scheduler.rules.in_force.apply import read_file_rules
from scheduler.scan.inventory.opening import SOURCES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def test_configuration_and_command_references_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file) if file else path
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_and_file_that_a_page_names_exists(path):
    text = path.read_text(encoding="utf-8")
    sources = "\n".join(one.read_text(encoding="utf-8") for one in (ROOT / "tests").rglob("*.py"))
    for name in set(re.findall(r"`(test_[a-z0-9_]+)`", text)):
        assert f"def {name}(" in sources, name
    for name in set(re.findall(r"`((?:workers|scheduler|tests|deploy|bench|docs)/[\w./-]+)`", text)):
        assert (ROOT / name).exists(), name


def configurations() -> list[tuple[str, str]]:
    """Every YAML block of a page that is a piece of config.yaml."""
    sections = "|".join(Settings.model_fields)
    found = []
    for path in PAGES:
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [(path.name, block) for block in blocks if re.match(rf"({sections}):", block)]
    return found


@pytest.mark.parametrize(("page", "block"), configurations(), ids=lambda value: value[:20])
def test_every_configuration_that_a_page_shows_is_valid(page, block, tmp_path):
    del page
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"/etc/ferryman/\S+", str(tmp_path / "secret"), block))
    (tmp_path / "secret").write_text("x")
    settings = load_settings(path, env={})
    read_file_rules(settings)
    input_specs(settings, list(settings.consume), begin=None, once=False)
    for scan in settings.scans.values():
        assert len(set(scan.inventory) & set(SOURCES)) == 1


def test_every_setting_has_a_meaning():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\|  \|$",
        (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert rows == []
