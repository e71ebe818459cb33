"""Every folder of code is a room: it says what it owns, what others may import, and it is not crowded."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(
    ".".join(init.parent.relative_to(ROOT).parts)
    for package in ("workers", "scheduler")
    for init in (ROOT / package).rglob("__init__.py")
)
#: Files beside `__init__` that a room may have, and the rooms that hold one kind a file.
MOST_FILES = 15
ONE_KIND_A_FILE = {"scheduler.commands", "scheduler.logs.formats"}


@pytest.fixture(scope="module")
def wanted_from_outside() -> dict[str, set[str]]:
    """Room -> its modules that something outside of it imports, for typing as well."""
    graph = grimp.build_graph("workers", "scheduler", cache_dir=None)
    found: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        room, _, name = module.rpartition(".")
        for importer in graph.find_modules_that_directly_import(module):
            if room and module not in ROOMS and not f"{importer}.".startswith(f"{room}."):
                found[room].add(name)
    return found


def test_there_is_no_folder_of_code_that_is_no_package():
    folders = {path.parent for package in ("workers", "scheduler") for path in (ROOT / package).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_owns_and_names_exactly_the_modules_that_others_import(room, wanted_from_outside):
    package = importlib.import_module(room)
    assert package.__doc__, f"{room}/__init__.py says nothing"
    if room == "scheduler.front.auth":  # the one room whose face is a function
        assert wanted_from_outside[room] <= {"encoding", "model"}
        return
    assert set(getattr(package, "__all__", ())) == wanted_from_outside[room]


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ONE_KIND_A_FILE])
def test_a_room_is_not_crowded(room):
    files = [path for path in ROOT.joinpath(*room.split(".")).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, f"which concept of {room} has no room of its own yet?"


def test_the_table_of_rooms_in_the_design_page_names_every_room():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = page[page.index("## Rooms") : page.index("## Decisions")]
    paths = {room.replace(".", "/") for room in ROOMS} - {"workers", "scheduler"}
    assert {path for path in paths if f"`{path}`" not in table} == set()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_path_that_a_page_names_is_there(page):
    found = ROOT / page if (ROOT / page).exists() else ROOT / "docs" / page
    named = set(
        re.findall(r"(?:workers|scheduler|tests|bench|deploy)/[\w./-]*\w", found.read_text(encoding="utf-8"))
    )
    missing = {path for path in named if not any((ROOT / (path + end)).exists() for end in ("", ".py"))}
    assert missing == set()
