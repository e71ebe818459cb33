"""Sorting an inventory outside memory, with sort(1).

Owns the line format between us and `sort`: one entry a line, fields separated by tabs, the place under the
collation first. Keys with control characters cannot stand in a line; they are refused before they come here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Collation, Entry, order_of
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: Memory that sort may take before it writes runs to disk.
SORT_MEMORY = "96M"
_CHUNK = 20_000


class SortFailed(FerrymanError):
    """sort(1) is missing, or ended with an error (most often a full disk)."""


async def sort_to_file(entries: AsyncIterator[Entry], collation: Collation, *, directory: Path) -> Path:
    """Write the entries, sorted under `collation`, to a new file in `directory`; read it with `read_sorted`.

    Raises:
        SortFailed: the message holds what sort said.
    """
    handle, name = tempfile.mkstemp(prefix="inventory-", suffix=".sorted", dir=directory)
    os.close(handle)
    path = Path(name)
    order = order_of(collation)
    try:
        process = await asyncio.create_subprocess_exec(
            "sort", "--field-separator=\t", "--key=1,1", "--stable", f"--buffer-size={SORT_MEMORY}",
            f"--temporary-directory={directory}", f"--output={path}",
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as error:
        path.unlink(missing_ok=True)
        msg = "sort(1) is not installed (package coreutils)"
        raise SortFailed(msg) from error
    assert process.stdin is not None
    try:
        lines: list[str] = []
        async for entry in entries:
            lines.append(_line(entry, order(entry.key)))
            if len(lines) >= _CHUNK:
                process.stdin.write("".join(lines).encode())
                lines.clear()
                await process.stdin.drain()
        process.stdin.write("".join(lines).encode())
        await process.stdin.drain()
        process.stdin.close()
        _, stderr = await process.communicate()
    except (BrokenPipeError, ConnectionResetError):
        _, stderr = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        path.unlink(missing_ok=True)
        raise
    if process.returncode != 0:
        path.unlink(missing_ok=True)
        msg = f"sort: {stderr.decode(errors='replace').strip() or f'exit code {process.returncode}'}"
        raise SortFailed(msg)
    return path


def read_sorted(
    path: Path, *, after: str | None = None, order: Collation = Collation.BYTES
) -> Iterator[Entry]:
    """The entries of a sorted file, in constant memory; with `after`, those whose key comes later."""
    place_of = order_of(order)
    skip = None if after is None else place_of(after)
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            place, key, size, digest, mtime = line[:-1].split("\t")
            key = key or place
            if skip is not None and place <= skip:
                continue
            yield Entry(key, int(size) if size else None, digest or None, float(mtime) if mtime else None)


def _line(entry: Entry, place: str) -> str:
    key, size, digest, mtime = entry
    shown = "" if place == key else key
    length = "" if size is None else size
    changed = "" if mtime is None else repr(mtime)
    return f"{place}\t{shown}\t{length}\t{digest or ''}\t{changed}\n"
