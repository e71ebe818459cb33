r"""Records of `find -printf '%s %T@ %P\0'`: size, time and path, ended by NUL. No name breaks them.

Owns cutting a stream of any length into records. A path that is not UTF-8 keeps its bytes as half characters:
such a key is refused by name, not taken for another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.scan.inventory.entry import Entry
from scheduler.scan.inventory.lines import rows
from scheduler.scan.inventory.lines.detection import FIND_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

#: Bytes read at a time, and of the longest record: a path has 4096 at most.
_CHUNK = 1 << 20
_LONGEST = 1 << 16


class Records:
    """The records of a stream, and the number of the last one that was taken."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while chunk := self._stream.read(_CHUNK):
            *whole, rest = (rest + chunk).split(b"\0")
            for record in whole:
                self.number += 1
                yield record
            if len(rest) > _LONGEST:
                self.number += 1
                msg = f"no NUL within {_LONGEST} bytes"
                raise ValueError(msg)
        if rest.strip():
            self.number += 1
            msg = "it is not ended by NUL: is the file cut?"
            raise ValueError(msg)


def read_records(records: Records, strip: str) -> Iterator[Entry]:
    """The entries of such records.

    Raises:
        ValueError: one is no `size mtime path`, or the last one is cut.
    """
    for record in records:
        found = FIND_RECORD.fullmatch(record)
        if found is None:
            msg = f"{record[:100]!r}: size, mtime and path by single spaces are expected"
            raise ValueError(msg)
        key = found[3].decode("utf-8", "surrogateescape")
        yield Entry(rows.stripped(key, strip), rows.size(found[1].decode()), None, float(found[2]))
