"""The file of a sorted inventory or listing: what it says of itself, and reading it.

Owns the format: one line that names the format's version, the order and what was sorted, then one entry a
line, `place TAB size TAB digest TAB mtime`, each key once. The place under the file's order gives the key
back, unknown fields are empty. Nobody else decides in which order a file is read: another one than asked for,
another version, or other contents than expected are refused, and whoever needs them sorts anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import orjson

from scheduler.scan.compare.merge import Block
from scheduler.scan.inventory.entry import Collation, Columns, order_of
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from scheduler.scan.inventory.entry import Entry

#: Of the lines; another version is refused.
FORMAT = 1
_MARK = b"#ferryman-sorted "
_MAX_HEADER_BYTES = 4096
#: Bytes of a sorted file that are read at a time.
_READ_BYTES = 1 << 18
_FIELDS = 4


class NotThisFile(FerrymanError):
    """A sorted file that cannot be used: another order, version or contents, or damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the lines of a sorted file depend on."""

    #: Never `NONE`: what is sorted here has an order.
    collation: Collation
    #: What was sorted, as its owner names it; another name is another file.
    of: str = ""


def sorted_as(collation: Collation) -> Collation:
    """The order that is sorted in where a store has this one: by bytes where it has none."""
    return Collation.BYTES if collation is Collation.NONE else collation


def header_line(header: Header) -> bytes:
    """The first line of a file."""
    record = {"format": FORMAT, "collation": header.collation.value, "of": header.of}
    return _MARK + orjson.dumps(record) + b"\n"


def read_header(path: Path) -> Header:
    """What a file says of itself.

    Raises:
        NotThisFile: it says nothing, or is of another version.
    """
    with path.open("rb") as file:
        return _header(file, path)


def read_blocks(
    path: Path,
    collation: Collation,
    *,
    after: str | None = None,
    of: str | None = None,
    keys: int | None = None,
) -> Iterator[Block[Entry]]:
    """The entries of a sorted file, in constant memory; with `after`, those whose key comes later.

    `of` and `keys`: what the whole file must hold, and how many.

    Raises:
        NotThisFile: the file is in another order, holds something else than `of`, or is damaged.
    """
    begin_at = checked_header(path, collation, of=of)
    return _blocks(path, sorted_as(collation), begin_at, after, keys)


def checked_header(path: Path, collation: Collation, *, of: str | None = None) -> int:
    """The byte that the entries of a file begin at.

    Raises:
        NotThisFile: the file is in another order, or holds something else than `of`.
    """
    wanted = sorted_as(collation)
    with path.open("rb") as raw:
        header = _header(raw, path)
        begin_at = raw.tell()
    if header.collation is not wanted:
        msg = f"{path}: sorted by {header.collation}, asked for by {wanted}"
        raise NotThisFile(msg)
    if of is not None and header.of != of:
        msg = f"{path}: holds {header.of or 'nothing by name'}, not {of}"
        raise NotThisFile(msg)
    return begin_at


def _header(file: IO[bytes], path: Path) -> Header:
    line = file.readline(_MAX_HEADER_BYTES)
    if not (line.startswith(_MARK) and line.endswith(b"\n")):
        msg = f"{path}: does not say in which order it is sorted (an earlier version's, or damaged)"
        raise NotThisFile(msg)
    try:
        record = orjson.loads(line[len(_MARK) :])
        version, order, of = record["format"], record["collation"], record["of"]
        if version == FORMAT and isinstance(of, str):
            return Header(collation=Collation(order), of=of)
    except (ValueError, KeyError, TypeError):
        version = "damaged"
    msg = f"{path}: format {version}; this version reads {FORMAT}"
    raise NotThisFile(msg)


def _blocks(
    path: Path, collation: Collation, begin_at: int, after: str | None, keys: int | None
) -> Iterator[Block[Entry]]:
    read = 0
    for block in blocks_of(lines_of(path, begin_at), collation, where=str(path)):
        read += len(block.places)
        kept = between(block, collation, after=after)
        if kept.places:
            after = None
            yield kept
    if keys is not None and read != keys:
        msg = f"{path}: {read} entries, and {keys} were written"
        raise NotThisFile(msg)


def lines_of(path: Path, begin_at: int, end_at: int | None = None) -> Iterator[bytes]:
    """Whole lines of a file from a byte on, up to one, many at a time; the last may be cut short."""
    with path.open("rb") as file:
        file.seek(begin_at)
        while data := file.read(
            _READ_BYTES if end_at is None else max(0, min(_READ_BYTES, end_at - file.tell()))
        ):
            yield data if data.endswith(b"\n") else data + file.readline()


def between(
    block: Block[Entry],
    collation: Collation,
    *,
    begin: str | None = None,
    after: str | None = None,
    end: str | None = None,
) -> Block[Entry]:
    """What of a sorted block has `begin` <= key < `end`, and `after` < key."""
    order, (places, items) = order_of(collation), block
    low, high = 0, len(places)
    if begin is not None:
        low = bisect_left(places, order(begin))
    if after is not None:
        low = max(low, bisect_right(places, order(after)))
    if end is not None and places and places[-1] >= order(end):
        high = bisect_left(places, order(end))
    return block if high - low == len(places) else Block(places[low:high], items[low : max(low, high)])


def blocks_of(lines: Iterable[bytes], collation: Collation, *, where: str) -> Iterator[Block[Entry]]:
    """The entries of whole lines that come many at a time; `where` names their source in messages.

    Raises:
        NotThisFile: they are damaged.
    """
    by_path = collation is Collation.PATH
    for data in lines:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            msg = f"{where}: damaged near {data[max(0, error.start - 100) : error.start + 100]!r}"
            raise NotThisFile(msg) from error
        # Places by component have no slash, those by bytes no U+0001: another key would come of either.
        cells = text.replace("\n", "\t").split("\t")
        cells.pop()
        places, sizes, digests, mtimes = (cells[at::_FIELDS] for at in range(_FIELDS))
        joined = "\n".join(places) if by_path else ""
        if (
            not text.endswith("\n")
            or len(places) != len(mtimes)
            or "/" in joined
            or (not by_path and "\x01" in text)
        ):
            msg = f"{where}: damaged near {text[:200]!r}"
            raise NotThisFile(msg)
        yield Block(
            places,
            Columns(
                joined.replace("\x01", "/").split("\n") if by_path else places,
                sizes if any(sizes) else None,
                digests if any(digests) else None,
                mtimes if any(mtimes) else None,
            ),
        )
