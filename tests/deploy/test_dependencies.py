"""pyproject.toml names what the code imports: nothing is there only because something else brings it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = {"workers", "scheduler"}


def run_nodes(node: ast.AST):
    """Every node but those that only a type checker reads."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from run_nodes(child)


def imported() -> dict[str, str]:
    """Top-level module of each import of ours -> one file that has it."""
    found: dict[str, str] = {}
    for package in OWN:
        for path in (ROOT / package).rglob("*.py"):
            for node in run_nodes(ast.parse(path.read_text(encoding="utf-8"))):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [one.name for one in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    found.setdefault(name.partition(".")[0], str(path.relative_to(ROOT)))
    return {name: path for name, path in found.items() if name not in OWN | set(sys.stdlib_module_names)}


def test_every_import_is_a_dependency_by_its_own_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for some in project["optional-dependencies"].values() for one in some),
    ]
    named = {re.match(r"[A-Za-z0-9._-]+", one)[0].lower() for one in wanted}
    #: Optional, and not in every environment.
    modules = {"pyarrow": ["pyarrow"], **packages_distributions()}
    brought = {
        f"{path}: {name}"
        for name, path in imported().items()
        if named.isdisjoint(one.lower().replace("_", "-") for one in modules.get(name, [name]))
    }
    assert brought == set()
