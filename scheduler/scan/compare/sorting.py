"""Sorting an inventory outside memory: as it comes when it is in order, with sort(1) when it is not.

Owns the making of a sorted file, also of another one in another order; `sorted_file` has its format and reads
it. Keys with control characters cannot stand in a line; they are refused before they come here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import IO, TYPE_CHECKING

from scheduler.scan.compare.sorted_file import Header, header_line, read_blocks, read_header, sorted_as
from scheduler.scan.inventory.entry import Collation, Columns, order_of
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.scan.inventory.entry import Entry

#: Memory that sort may take before it writes runs to disk.
SORT_MEMORY = "96M"


class SortFailed(FerrymanError):
    """sort(1) is missing, or ended with an error (most often a full disk)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedFile:
    """A sorted file on disk; read it with `read_blocks`."""

    path: Path
    #: Keys, each once, and how many more times they were named.
    keys: int
    duplicates: int
    #: Of its entries, in its order: the same of the same ones.
    digest: str


class Sorter:
    """Takes entries in blocks and leaves them sorted in a file. Blocking: call it from a thread."""

    def __init__(self, path: Path, collation: Collation, *, of: str = "") -> None:
        """`of` names what is sorted; whoever reads the file can ask for that name."""
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._sorted = path.with_name(f"{path.name}.sorting")
        self._header = Header(collation=sorted_as(collation), of=of)
        self._order = order_of(collation)
        self._out: IO[bytes] = self._part.open("wb")
        self._out.write(header_line(self._header))
        self._begin_at = self._out.tell()
        self._sort: subprocess.Popen[bytes] | None = None
        self._taken = 0
        self._last = ""
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, entries: Sequence[Entry]) -> None:
        """Take some more.

        Raises:
            SortFailed: sort(1) is missing or has given up.
        """
        if not entries:
            return
        keys = entries.keys if isinstance(entries, Columns) else [entry.key for entry in entries]
        places = keys if self._header.collation is not Collation.PATH else list(map(self._order, keys))
        self._taken += len(places)
        if self._sort is None:
            if places[0] > self._last and all(map(lt, places, islice(places, 1, None))):
                self._last = places[-1]
            else:
                self._sort = self._begin_sort()
        out = self._out if self._sort is None else self._sort.stdin
        assert out is not None
        lines = _lines(entries, places).encode()
        if self._sort is None:
            self._digest.update(lines)
        try:
            out.write(lines)
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
            return SortedFile(
                path=self._path, keys=self._taken, duplicates=0, digest=self._digest.hexdigest()
            )
        self._end_sort()
        self._part.unlink()
        kept = 0
        digest = hashlib.blake2b(digest_size=16)
        with self._sorted.open("rb") as file:
            file.seek(self._begin_at)
            while chunk := file.read(1 << 20):
                kept += chunk.count(b"\n")
                digest.update(chunk)
        self._sorted.replace(self._path)
        return SortedFile(
            path=self._path, keys=kept, duplicates=self._taken - kept, digest=digest.hexdigest()
        )

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._sort is not None:
            self._sort.kill()
            self._sort.communicate()
        self._out.close()
        self._part.unlink(missing_ok=True)
        self._sorted.unlink(missing_ok=True)

    def _begin_sort(self) -> subprocess.Popen[bytes]:
        """What came so far was in order and is written; from here on sort(1) takes it all."""
        with self._sorted.open("wb") as out:
            out.write(header_line(self._header))
            out.flush()
            try:
                sort = subprocess.Popen(
                    ["sort", "--field-separator=\t", "--key=1,1", "--stable", "--unique",
                     f"--buffer-size={SORT_MEMORY}", f"--temporary-directory={self._path.parent}"],
                    stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE,
                    env={**os.environ, "LC_ALL": "C"},
                )  # fmt: skip
            except FileNotFoundError as error:
                msg = "sort(1) is not installed (package coreutils)"
                raise SortFailed(msg) from error
        assert sort.stdin is not None
        self._out.flush()
        with self._part.open("rb") as begun, contextlib.suppress(BrokenPipeError):
            begun.seek(self._begin_at)
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


def in_order(path: Path, collation: Collation) -> None:
    """Have a sorted file in this order: sorted anew, in its place, when it is in another. Blocking.

    Raises:
        NotThisFile: the file does not say in which order it is.
        SortFailed: there is no room, or no sort(1).
    """
    header = read_header(path)
    if header.collation is sorted_as(collation):
        return
    # Under another name of one's own until it is whole: whoever reads the old one reads on.
    sorter = Sorter(path.with_name(f"{path.name}.{os.getpid()}"), collation, of=header.of)
    try:
        for block in read_blocks(path, header.collation):
            sorter.add(block.items)
        sorter.finish().path.replace(path)
    except BaseException:
        sorter.abort()
        raise


def _lines(entries: Sequence[Entry], places: list[str]) -> str:
    if isinstance(entries, Columns):
        return _lines_of_columns(entries, places)
    if not any(size is not None or digest or mtime is not None for _, size, digest, mtime in entries):
        return "\t\t\t\n".join(places) + "\t\t\t\n"
    return "".join([
        f"{place}\t{'' if size is None else size}\t{digest or ''}\t{'' if mtime is None else repr(mtime)}\n"
        for place, (_, size, digest, mtime) in zip(places, entries, strict=True)
    ])  # fmt: skip


def _lines_of_columns(entries: Columns, places: list[str]) -> str:
    columns = [entries.sizes, entries.digests, entries.mtimes]
    empty = 0
    while columns and columns[-1] is None:
        columns.pop()
        empty += 1
    end = "\t" * empty + "\n"
    unknown = [""] * len(places) if None in columns else []
    cells = [places, *(column if column is not None else unknown for column in columns)]
    return end.join(map("\t".join, zip(*cells, strict=True))) + end
