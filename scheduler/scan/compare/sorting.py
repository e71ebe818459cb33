"""Sorting an inventory outside memory: as it comes when it is in order, with sort(1) when it is not.

Owns the file of a sorted inventory: one entry a line, `place TAB size TAB digest TAB mtime`, each key once.
The place under the collation gives the key back, and unknown fields are empty. Keys with control characters
cannot stand in a line; they are refused before they come here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import IO, TYPE_CHECKING

from scheduler.scan.compare.merge import Block
from scheduler.scan.inventory.entry import Collation, Columns, order_of
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scheduler.scan.inventory.entry import Entry

#: Memory that sort may take before it writes runs to disk.
SORT_MEMORY = "96M"
#: Characters of a sorted file that are read at a time.
_READ_CHARS = 1 << 18
_FIELDS = 4


class SortFailed(FerrymanError):
    """sort(1) is missing, or ended with an error (most often a full disk)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedFile:
    """A sorted inventory on disk; read it with `read_blocks`."""

    path: Path
    #: Keys, each once, and how many more times they were named.
    keys: int
    duplicates: int


class Sorter:
    """Takes entries in blocks and leaves them sorted in a file. Blocking: call it from a thread."""

    def __init__(self, path: Path, collation: Collation) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._collation = collation
        self._order = order_of(collation)
        self._out: IO[bytes] = self._part.open("wb")
        self._sort: subprocess.Popen[bytes] | None = None
        self._taken = 0
        self._last = ""

    def add(self, entries: Sequence[Entry]) -> None:
        """Take some more.

        Raises:
            SortFailed: sort(1) is missing or has given up.
        """
        if not entries:
            return
        keys = [entry.key for entry in entries]
        places = keys if self._collation is not Collation.PATH else list(map(self._order, keys))
        self._taken += len(places)
        if self._sort is None:
            if places[0] > self._last and all(map(lt, places, islice(places, 1, None))):
                self._last = places[-1]
            else:
                self._sort = self._begin_sort()
        out = self._out if self._sort is None else self._sort.stdin
        assert out is not None
        try:
            out.write(_lines(entries, places).encode())
        except BrokenPipeError:
            self._end_sort()

    def finish(self) -> SortedFile:
        """The sorted file.

        Raises:
            SortFailed: the message holds what sort said.
        """
        self._out.close()
        if self._sort is None:
            self._part.replace(self._path)
            return SortedFile(path=self._path, keys=self._taken, duplicates=0)
        self._end_sort()
        self._part.unlink()
        with self._path.open("rb") as file:
            kept = 0
            while chunk := file.read(1 << 20):
                kept += chunk.count(b"\n")
        return SortedFile(path=self._path, keys=kept, duplicates=self._taken - kept)

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._sort is not None:
            self._sort.kill()
            self._sort.communicate()
        self._out.close()
        self._part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def _begin_sort(self) -> subprocess.Popen[bytes]:
        """What came so far was in order and is written; from here on sort(1) takes it all."""
        try:
            sort = subprocess.Popen(
                ["sort", "--field-separator=\t", "--key=1,1", "--stable", "--unique",
                 f"--buffer-size={SORT_MEMORY}", f"--temporary-directory={self._path.parent}",
                 f"--output={self._path}"],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except FileNotFoundError as error:
            msg = "sort(1) is not installed (package coreutils)"
            raise SortFailed(msg) from error
        assert sort.stdin is not None
        self._out.flush()
        with self._part.open("rb") as begun, contextlib.suppress(BrokenPipeError):
            shutil.copyfileobj(begun, sort.stdin, 1 << 20)
        return sort

    def _end_sort(self) -> None:
        assert self._sort is not None
        with contextlib.suppress(BrokenPipeError):
            _, stderr = self._sort.communicate()
        if self._sort.returncode != 0:
            said = stderr.decode(errors="replace").strip()
            msg = f"sort: {said or f'exit code {self._sort.returncode}'}"
            raise SortFailed(msg)


def read_blocks(path: Path, collation: Collation, *, after: str | None = None) -> Iterator[Block[Entry]]:
    """The entries of a sorted file, in constant memory; with `after`, those whose key comes later."""
    skip = None if after is None else order_of(collation)(after)
    with path.open(encoding="utf-8", newline="\n") as file:
        while text := file.read(_READ_CHARS):
            if not text.endswith("\n"):
                text += file.readline()
            cells = text.replace("\n", "\t").split("\t")
            cells.pop()
            places, sizes, digests, mtimes = (cells[at::_FIELDS] for at in range(_FIELDS))
            if skip is not None:
                begin = bisect_right(places, skip)
                if begin == len(places):
                    continue
                places, sizes, digests, mtimes = (
                    column[begin:] for column in (places, sizes, digests, mtimes)
                )
                skip = None
            yield Block(
                places,
                Columns(
                    places if collation is not Collation.PATH else _keys(places),
                    sizes if any(sizes) else None,
                    digests if any(digests) else None,
                    mtimes if any(mtimes) else None,
                ),
            )


def _keys(places: list[str]) -> list[str]:
    return "\n".join(places).replace("\x01", "/").split("\n")


def _lines(entries: Sequence[Entry], places: list[str]) -> str:
    if not any(size is not None or digest or mtime is not None for _, size, digest, mtime in entries):
        return "\t\t\t\n".join(places) + "\t\t\t\n"
    return "".join([
        f"{place}\t{'' if size is None else size}\t{digest or ''}\t{'' if mtime is None else repr(mtime)}\n"
        for place, (_, size, digest, mtime) in zip(places, entries, strict=True)
    ])  # fmt: skip
