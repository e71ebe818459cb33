"""Opening a part of a sorted inventory, wherever the inventory lies: in a file here, or in the store.

Owns the one interface that shards read by: half-open ranges of keys `[begin, end)`, and the keys that cut an
inventory into parts of as many keys. Owns the index beside a file; `published` has the form in the store.

    inventory = await open_inventory(services.store, bucket, state)
    for key in inventory.index.cuts(32): …                  the 31 keys that 32 shards meet at
    for block in inventory.blocks("img/2", "img/3"): …      from a thread; `after=` behind a checkpoint
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scheduler.scan.compare.index import Index, IndexBuilder, decoded, encoded
from scheduler.scan.compare.published import open_published
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import (
    NotThisFile,
    between,
    blocks_of,
    checked_header,
    lines_of,
    read_header,
    sorted_as,
)
from scheduler.scan.inventory.entry import Collation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.scan.compare.merge import Block
    from scheduler.scan.inventory.entry import Entry
    from scheduler.scan.record.state import ScanState
    from workers.store.client import ObjectStore


class SortedInventory(Protocol):
    """An inventory in order, of which parts can be read."""

    @property
    def index(self) -> Index:
        """Where its keys stand, how many there are, and where to cut it."""

    def blocks(
        self, begin: str | None = None, end: str | None = None, *, after: str | None = None
    ) -> Iterator[Block[Entry]]:
        """The entries with `begin` <= key < `end`, those behind `after` only; None: without that bound.

        Blocking: call it from a thread that is not the event loop's. Flat memory.

        Raises:
            NotThisFile: it is damaged, or gone meanwhile.
            StoreError: it lies in the store, which does not give it.
        """


@dataclass(frozen=True, slots=True)
class LocalInventory:
    """One in a file here."""

    path: Path
    index: Index

    def blocks(
        self, begin: str | None = None, end: str | None = None, *, after: str | None = None
    ) -> Iterator[Block[Entry]]:
        """As `SortedInventory.blocks`."""
        collation = self.index.collation
        start = begin if after is None or (begin is not None and begin > after) else after
        from_at, to_at = self.index.span(start, end)
        lines = lines_of(self.path, from_at, to_at)
        for block in blocks_of(lines, collation, where=str(self.path)):
            kept = between(block, collation, begin=begin, after=after, end=end)
            if kept.places:
                yield kept


def open_local(path: Path, collation: Collation, *, of: str | None = None) -> LocalInventory:
    """The inventory in a file, with its index: that beside it, or one that is made now. Blocking.

    Raises:
        NotThisFile: there is none, it is in another order, or it holds something else than `of`.
    """
    try:
        begin_at = checked_header(path, collation, of=of)
        index = _index_beside(path, sorted_as(collation)) or _indexed(path, begin_at)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise NotThisFile(msg) from error
    return LocalInventory(path, index)


def index_path(path: Path) -> Path:
    """Where the index of a sorted file stands."""
    return path.with_name(f"{path.name}.index")


def _index_beside(path: Path, collation: Collation) -> Index | None:
    try:
        index = decoded(index_path(path).read_bytes())  # a few hundred kilobytes
    except (OSError, ValueError):
        return None
    fits = (index.collation, index.of, index.end_at) == (
        collation, read_header(path).of, path.stat().st_size,
    )  # fmt: skip
    return index if fits else None


def _indexed(path: Path, begin_at: int) -> Index:
    """One pass over the file, at a few hundred megabytes a second."""
    header = read_header(path)
    builder = IndexBuilder(begin_at=begin_at)
    for lines in lines_of(path, begin_at):
        if not lines.endswith(b"\n"):
            msg = f"{path}: damaged near its end"
            raise NotThisFile(msg)
        builder.add(lines)
    index = builder.index(header.collation, header.of)
    # Under a name of one's own until it is whole: several processes may do this at once.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(encoded(index))
    part.replace(index_path(path))
    return index


async def open_inventory(store: ObjectStore, bucket: str, state: ScanState) -> SortedInventory:
    """The sorted inventory of a run: its file where this machine has it, else its objects in the store.

    `bucket` is the one that it was published in.

    Raises:
        NotThisFile: it is neither here nor there.
        StoreError: the store does not give it.
    """
    path, collation, of = Path(state.inventory_file), Collation(state.collation), inventory_of(state)
    try:
        found = await asyncio.to_thread(open_local, path, collation, of=of)
        if state.inventory_keys in {None, found.index.keys}:
            return found
        reason = f"{path}: {found.index.keys} entries, and {state.inventory_keys} were written"
    except NotThisFile as error:
        reason = str(error)
    there = await open_published(store, bucket, state.run, state.inventory_digest, of=of)
    if there is None:
        msg = f"{reason}; and it is not in the store either"
        raise NotThisFile(msg)
    return there
