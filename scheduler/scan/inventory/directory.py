"""Inventory from a local directory: the origin's own files, where they can be reached.

Owns the mapping of paths to keys (relative, `/` between components), and who reads which folders: several
threads, each its own. Symbolic links to files are followed, to directories they are not. A directory below
that cannot be read is named and passed over. It takes no options.
"""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.walk import Walk, shown
from workers.background import end
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scheduler.runtime import Services

#: Files that are handed on at a time: few enough for a slow disk to be stopped within a second.
_BLOCK = 1_000
#: Folders that are read at the same time: where files lie elsewhere, a look at one is a way there and back.
_AT_ONCE = 8
#: Folders that are left, from which on some are given to another thread.
_WORTH_SHARING = 2


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
    running: dict[asyncio.Task[list[Entry]], _Walker] = {}

    def go_on(walker: _Walker) -> None:
        running[asyncio.create_task(asyncio.to_thread(walker.take))] = walker

    go_on(_Walker([(os.fspath(root), "")], walk))
    try:
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                walker, block = running.pop(task), task.result()
                walker.tell(walk)
                if block:
                    while len(running) < _AT_ONCE - 1 and (other := walker.share()) is not None:
                        go_on(other)
                    go_on(walker)
                    yield block
    finally:
        await end(*running)


class _Walker:
    """Folders that are read one after the other; no two threads have it at a time."""

    def __init__(self, pending: list[tuple[str, str]], walk: Walk) -> None:
        #: Paths of folders, and what their keys begin with.
        self._pending = pending
        self._walk = Walk(prefix=walk.prefix, exclude=walk.exclude)
        self._found = self._files()

    def take(self) -> list[Entry]:
        """The next files; none at the end. Blocking."""
        return list(islice(self._found, _BLOCK))

    def share(self) -> _Walker | None:
        """Half of the folders that are left, for somebody else."""
        if len(self._pending) < _WORTH_SHARING:
            return None
        given = self._pending[::2]
        self._pending[:] = self._pending[1::2]
        return _Walker(given, self._walk)

    def tell(self, walk: Walk) -> None:
        """Add to the whole what was seen since it was told last."""
        mine = self._walk
        walk.pages += mine.pages
        walk.left_out += mine.left_out
        for place, reason in mine.unread:
            walk.miss(place, reason)
        self._walk = Walk(prefix=walk.prefix, exclude=walk.exclude)

    def _files(self) -> Iterator[Entry]:
        while self._pending:
            folder, prefix = self._pending.pop()
            try:
                with os.scandir(folder) as items:
                    below = list(items)
            except OSError as error:
                if not prefix:
                    raise
                self._walk.miss(shown(folder), error.strerror or str(error))
                continue
            self._walk.pages += 1
            for item in below:
                key = prefix + item.name
                try:
                    if item.is_dir(follow_symlinks=False):
                        if not self._walk.skips(key + "/"):
                            self._pending.append((item.path, key + "/"))
                    elif item.is_file():
                        status = item.stat()
                        yield Entry(key, status.st_size, None, status.st_mtime)
                except OSError as error:
                    self._walk.miss(shown(item.path), error.strerror or str(error))
