"""Inventory from a local directory: the origin's own files, where they can be reached.

Owns the mapping of paths to keys (relative, `/` between components). Symbolic links to files are followed, to
directories they are not. It takes no options.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduler.scan.inventory.entry import Entry
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services


async def entries(argument: Any, options: dict[str, Any], services: Services) -> AsyncIterator[Entry]:
    """Every regular file below `argument`.

    Raises:
        ConfigError: it is no directory, or an option is given.
        OSError: a directory below cannot be read; the scan fails rather than miss what is in it.
    """
    del services
    if options:
        msg = f"directory: unknown option {min(options)!r}; it takes none"
        raise ConfigError(msg)
    root = Path(str(argument))
    if not root.is_dir():
        msg = f"directory {root}: no such directory"
        raise ConfigError(msg)
    for entry in _walk(root, ""):
        yield entry


def _walk(directory: Path, prefix: str) -> Iterator[Entry]:
    with os.scandir(directory) as found:
        for item in found:
            key = prefix + item.name
            if item.is_dir(follow_symlinks=False):
                yield from _walk(Path(item.path), key + "/")
            elif item.is_file():
                status = item.stat()
                yield Entry(key, status.st_size, None, status.st_mtime)
