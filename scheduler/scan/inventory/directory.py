"""Inventory from a local directory: the origin's own files, where they can be reached.

Owns the mapping of paths to keys (relative, `/` between components). Symbolic links to files are followed, to
directories they are not. A directory below that cannot be read is named and passed over. It takes no options.
"""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.walk import shown
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services
    from scheduler.scan.inventory.walk import Walk

#: Files that are handed on at a time: few enough for a slow disk to be stopped within a second.
_BLOCK = 1_000


async def blocks(
    argument: Any, options: dict[str, Any], services: Services, walk: Walk
) -> AsyncIterator[list[Entry]]:
    """Every regular file below `argument`.

    Raises:
        ConfigError: it is no directory, or an option is given.
        OSError: the directory itself cannot be read.
    """
    del services
    if options:
        msg = f"directory: unknown option {min(options)!r}; it takes none"
        raise ConfigError(msg)
    root = Path(str(argument))
    if not root.is_dir():
        msg = f"directory {root}: no such directory"
        raise ConfigError(msg)
    found = _walk(root, walk)
    while block := await asyncio.to_thread(lambda: list(islice(found, _BLOCK))):
        yield block


def _walk(root: Path, walk: Walk) -> Iterator[Entry]:
    pending = [(os.fspath(root), "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as items:
                below = list(items)
        except OSError as error:
            if not prefix:
                raise
            walk.miss(shown(folder), error.strerror or str(error))
            continue
        walk.pages += 1
        for item in below:
            key = prefix + item.name
            try:
                if item.is_dir(follow_symlinks=False):
                    if not walk.skips(key + "/"):
                        pending.append((item.path, key + "/"))
                elif item.is_file():
                    status = item.stat()
                    yield Entry(key, status.st_size, None, status.st_mtime)
            except OSError as error:
                walk.miss(shown(item.path), error.strerror or str(error))
