"""docs/s3.md says which clients of others were run: those that are locked, in their versions."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_clients_names_each_with_its_locked_version():
    wanted = {
        re.split(r"[\[><=]", line)[0].strip()
        for line in (ROOT / "tests/clients.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "tests/clients.lock").read_text(), re.MULTILINE))
    section = (ROOT / "docs/s3.md").read_text().partition("## Clients that were run")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| ([\w.-]+) (\d\S*) \|", section, re.MULTILINE))
    assert told == {name: locked[name] for name in wanted}
