"""Inventory sources, one a file; each yields what the origin is said to hold, in any order.

Owns the table of sources by name. A source is an async generator
`entries(argument, options, services, walk)`; the scan sorts what it yields, so no source has to. One whose
reading blocks, or that says how far it is, has `blocks` instead, with lists of entries. What a source could
not read on its way it tells its `walk`.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduler.scan.inventory.walk import Walk
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from scheduler.runtime import Services
    from scheduler.scan.inventory.entry import Entry

#: Entries that are handed on at a time.
BLOCK = 5_000
#: Name in `scans.<name>.inventory` -> module of this room.
SOURCES: dict[str, str] = {
    "manifest": "manifest",
    "bucket": "bucket",
    "s3_inventory": "s3_inventory",
    "http_index": "http_index",
    "sitemap": "sitemap",
    "directory": "directory",
    "rclone_lsf": "rclone_lsf",
}


def version_of(inventory: dict[str, Any]) -> str:
    """What tells the file that a source reads from one written there later; empty for what is no file.

    Blocking: size and time of change, and no look inside.
    """
    for name in SOURCES.keys() & inventory.keys():
        place = Path(str(inventory[name]))
        with contextlib.suppress(OSError, ValueError):
            if place.is_absolute() and place.is_file():
                seen = place.stat()
                return f"{seen.st_size}-{seen.st_mtime_ns}"
    return ""


async def open_source(
    inventory: dict[str, Any], *, services: Services, walk: Walk | None = None
) -> AsyncIterator[Sequence[Entry]]:
    """The entries of a source given as `{name: argument}`, for example `{"manifest": "urls.csv"}`, in blocks.

    Other keys of the mapping are options of that source; `walk` hears what could not be read.

    Raises:
        ConfigError: no source, an unknown one, or more than one is named.
    """
    walk = walk or Walk()
    named = [name for name in inventory if name in SOURCES]
    if len(named) != 1:
        what = f"found {', '.join(map(repr, inventory)) or 'nothing'}"
        msg = f"inventory: exactly one source of {', '.join(sorted(SOURCES))} is expected, {what}"
        raise ConfigError(msg)
    module = importlib.import_module(f"{__package__}.{SOURCES[named[0]]}")
    options = {name: value for name, value in inventory.items() if name != named[0]}
    read = getattr(module, "blocks", None) or module.entries
    # What it has under way ends with whoever reads here.
    async with contextlib.aclosing(read(inventory[named[0]], options, services, walk)) as source:
        if hasattr(module, "blocks"):
            async for block in source:
                yield block
            return
        some: list[Entry] = []
        async for entry in source:
            some.append(entry)
            if len(some) >= BLOCK:
                yield some
                some = []
        yield some
