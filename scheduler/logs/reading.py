"""Reading whole lines from one file: plain and growing, or packed and finished.

Owns offsets, the partial last line and lines that are too long. What is read moves the offset; what is
accepted moves the mark. Knows no rotation.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from scheduler.logs.identity import (
    GZIP_MAGIC,
    HEAD_BYTES,
    TAIL_BYTES,
    Mark,
    content_of,
    digest,
    same_content,
    same_content_gz,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Longest line that is read; a longer one is passed over and counted.
MAX_LINE_BYTES = 4 << 20
#: What tells zlib that members are gzip's.
_GZIP: Final = zlib.MAX_WBITS | 16
#: Bytes before the end of a block in which its last line end is looked for first.
_PEEKED_BYTES: Final = 4096
#: How far back the line is looked for that names the columns, and how much of it is read.
_LOOKED_BACK_BYTES: Final = 1 << 30
_LOOKED_BACK_AT_ONCE_BYTES: Final = 1 << 20
_HEADING_BYTES: Final = 16 << 10
#: Packed bytes that are taken at a time.
_PACKED_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Whole lines of one file; the last one always ends with a line end."""

    data: bytes
    #: The mark to keep once the piece is accepted.
    mark: Mark


class Reader(Protocol):
    """A file being read."""

    path: Path
    offset: int

    def read(self, limit_bytes: int, *, final: bool = False) -> Piece | None:
        """The next whole lines, about `limit_bytes`; `final` takes a last line without its end too."""

    def mark(self) -> Mark:
        """Where the next piece starts."""

    def lines_before(self, literal: bytes) -> Iterator[bytes]:
        """Lines with `literal` among those that were read, the last one first."""

    def size(self) -> int:
        """Bytes there are, as far as known."""

    def close(self) -> None: ...


class FileReader:
    """A plain file, open from one offset on."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        info = os.fstat(self._fd)
        self.device = info.st_dev
        self.inode = info.st_ino
        self._size = info.st_size
        self.offset = offset
        #: Lines passed over because they were too long.
        self.overlong = 0
        self._head = os.pread(self._fd, min(HEAD_BYTES, offset), 0)
        before = min(TAIL_BYTES, offset)
        self._tail = os.pread(self._fd, before, offset - before)

    @property
    def descriptor(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def size(self) -> int:
        if self._fd >= 0:
            self._size = os.fstat(self._fd).st_size
        return self._size

    def mark(self) -> Mark:
        return Mark(
            device=self.device,
            inode=self.inode,
            offset=self.offset,
            head=digest(self._head),
            tail=digest(self._tail),
            size=self.size(),
        )

    def lines_before(self, literal: bytes) -> Iterator[bytes]:
        """Lines with `literal` among those before the offset, the last one first, each from its start."""
        at = self.offset
        bound = max(0, at - _LOOKED_BACK_BYTES)
        while at > bound:
            start = max(bound, at - _LOOKED_BACK_AT_ONCE_BYTES)
            data = os.pread(self._fd, at - start + len(literal) - 1, start)
            found = data.rfind(literal)
            while found >= 0:
                begin = max(0, start + found - HEAD_BYTES)
                before = os.pread(self._fd, start + found - begin, begin)
                first = begin + before.rfind(b"\n") + 1
                yield os.pread(self._fd, _HEADING_BYTES, first).split(b"\n", 1)[0]
                found = data.rfind(literal, 0, found)
            at = start

    def intact(self) -> bool:
        """Whether the bytes before the offset are still those that were read (no truncation since)."""
        if self.size() < self.offset:
            return False
        before = len(self._tail)
        return os.pread(self._fd, before, self.offset - before) == self._tail

    def has_read(self, copy: Path) -> bool:
        """Whether everything in the file, packed or not, has been read here: it is a beginning of that.

        Rotation copies and truncates; lines may be written and read between the two.
        """
        try:
            with content_of(copy) as content:
                size = content.seek(0, os.SEEK_END)
                if not 0 < size <= self.offset:
                    return False
                content.seek(0)
                head = content.read(len(self._head))
                content.seek(self.offset - len(self._tail))
                return self._head.startswith(head) and self._tail.startswith(content.read(len(self._tail)))
        except (OSError, EOFError, zlib.error):
            return False

    def rewind(self) -> None:
        """Start again from the first byte: the file was truncated."""
        self.offset = 0
        self._head = self._tail = b""

    def seek_end(self) -> None:
        """Go behind the last whole line that is there now."""
        size = self.size()
        at = size
        while at > 0:
            start = max(0, at - TAIL_BYTES)
            found = os.pread(self._fd, at - start, start).rfind(b"\n")
            if found >= 0:
                at = start + found + 1
                break
            at = start
        self._advance_to(at)

    def _advance_to(self, offset: int) -> None:
        self.offset = offset
        self._head = os.pread(self._fd, min(HEAD_BYTES, offset), 0)
        before = min(TAIL_BYTES, offset)
        self._tail = os.pread(self._fd, before, offset - before)

    def read(self, limit_bytes: int, *, final: bool = False) -> Piece | None:
        data = self._block(limit_bytes)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == limit_bytes:
            data = os.pread(self._fd, MAX_LINE_BYTES, self.offset)
            end = data.rfind(b"\n") + 1
            if end == 0 and len(data) == MAX_LINE_BYTES:
                return self._pass_over()
        if end:
            used = data if end == len(data) else data[:end]
            return self._took(used, used)
        if final and data:
            return self._took(data, data + b"\n")
        return None

    def _block(self, limit_bytes: int) -> bytes:
        """The next bytes, at most `limit_bytes`: up to a line's end where that can be looked up first.

        Cutting a block that was read copies it, and a copy's pages are touched for the first time: that is
        more than twice what reading it costs.
        """
        ahead = limit_bytes - _PEEKED_BYTES
        found = os.pread(self._fd, _PEEKED_BYTES, self.offset + ahead).rfind(b"\n") if ahead > 0 else -1
        if found >= 0:
            data = os.pread(self._fd, ahead + found + 1, self.offset)
            if data.endswith(b"\n"):  # else the file is being rewritten
                return data
        return os.pread(self._fd, limit_bytes, self.offset)

    def _took(self, consumed: bytes, lines: bytes) -> Piece:
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + consumed[:HEAD_BYTES])[:HEAD_BYTES]
        self._tail = (self._tail + consumed[-TAIL_BYTES:])[-TAIL_BYTES:]
        self.offset += len(consumed)
        return Piece(data=lines, mark=self.mark())

    def _pass_over(self) -> Piece | None:
        """Skip a line that is longer than we read; None while its end has not been written."""
        at = self.offset
        while True:
            piece = os.pread(self._fd, MAX_LINE_BYTES, at)
            if not piece:
                return None
            found = piece.find(b"\n")
            if found >= 0:
                self._advance_to(at + found + 1)
                self.overlong += 1
                return Piece(data=b"\n", mark=self.mark())
            at += len(piece)


class Unpacker:
    """The members of a gzip file, one after the other; what can be unpacked before a damage is given.

    Python's own reader gives nothing of the piece in which it meets the damage.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False
        self._waiting = b""
        #: Why unpacking ended early; empty when it did not.
        self.damaged = ""
        self.ended = False

    def read(self, limit_bytes: int) -> bytes:
        """Up to so many bytes; empty at the end, and from a damage on."""
        while not self.ended:
            packed = self._waiting or self._file.read(_PACKED_BYTES)
            self._waiting = b""
            if not packed:
                self.ended = True
                if self._begun:
                    self.damaged = "it ends in the middle of a member"
                return b""
            if not self._begun:
                packed = packed.lstrip(b"\0")  # some writers pad
                if packed and not GZIP_MAGIC.startswith(packed[:2]):
                    self.ended, self.damaged = True, "junk behind the last member"
                    return b""
            data = self._take(packed, limit_bytes)
            if data:
                return data
        return b""

    def _take(self, packed: bytes, limit_bytes: int) -> bytes:
        before = self._member.copy()
        self._begun = self._begun or bool(packed)
        try:
            data = self._member.decompress(packed, limit_bytes)
        except zlib.error as error:
            self.ended, self.damaged = True, str(error)
            return _until_damage(before, packed, limit_bytes)
        if self._member.eof:
            self._waiting = self._member.unused_data
            self._member, self._begun = zlib.decompressobj(_GZIP), False
        else:
            self._waiting = self._member.unconsumed_tail
        return data


def _until_damage(member: Any, packed: bytes, limit_bytes: int) -> bytes:
    """What a member gives of a piece before the byte that it stumbles over."""
    found = b""
    for at in range(len(packed)):
        try:
            found += member.decompress(packed[at : at + 1], max(1, limit_bytes - len(found)))
        except zlib.error:
            break
    return found


class GzipReader:
    """A packed, finished file, unpacked as it is read; offsets count unpacked bytes.

    Damage ends the file with `damaged` set: every line that can be read before it is read.
    """

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self.path = path
        self._file = path.open("rb")
        self._packed = Unpacker(self._file)
        info = path.stat()
        self.device = info.st_dev
        self.inode = info.st_ino
        self.offset = 0
        self.overlong = 0
        #: Why unpacking ended early; empty when it did not.
        self.damaged = ""
        self._rest = b""
        self._head = self._tail = b""
        self._ended = False
        while self.offset < offset:
            data = self._unpack(min(1 << 20, offset - self.offset))
            if not data:
                break
            self._remember(data)
            self.offset += len(data)

    @property
    def ended(self) -> bool:
        return self._ended and not self._rest

    def lines_before(self, literal: bytes) -> Iterator[bytes]:
        """As `FileReader.lines_before`; the file is unpacked once more."""
        found: list[bytes] = []
        again = GzipReader(self.path)
        while again.offset < self.offset and (piece := again.read(_LOOKED_BACK_AT_ONCE_BYTES)) is not None:
            data = piece.data[: len(piece.data) - max(0, again.offset - self.offset)]
            found += [line for line in data.split(b"\n") if literal in line] if literal in data else []
        again.close()
        return reversed(found)

    def size(self) -> int:
        return self.offset + len(self._rest)

    def close(self) -> None:
        self._file.close()

    def mark(self) -> Mark:
        return Mark(
            device=self.device,
            inode=self.inode,
            offset=self.offset,
            head=digest(self._head),
            tail=digest(self._tail),
            size=self.offset,
        )

    def read(self, limit_bytes: int, *, final: bool = False) -> Piece | None:  # noqa: ARG002 -- always final
        while True:
            data = self._rest + self._unpack(limit_bytes)
            end = data.rfind(b"\n") + 1
            if end:
                self._rest = data[end:]
                return self._took(data[:end], data[:end])
            if self._ended:
                self._rest = b""
                return self._took(data, data + b"\n") if data else None
            if len(data) >= MAX_LINE_BYTES:
                self.overlong += 1
                self._remember(data)
                self.offset += len(data)
                data = b""
            self._rest = data

    def _took(self, consumed: bytes, lines: bytes) -> Piece:
        self._remember(consumed)
        self.offset += len(consumed)
        return Piece(data=lines, mark=self.mark())

    def _remember(self, consumed: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + consumed[:HEAD_BYTES])[:HEAD_BYTES]
        self._tail = (self._tail + consumed[-TAIL_BYTES:])[-TAIL_BYTES:]

    def _unpack(self, limit_bytes: int) -> bytes:
        try:
            data = self._packed.read(limit_bytes)
        except OSError as error:
            self.damaged = str(error)
            data = b""
        if not data:
            self._ended = True
            self.damaged = self.damaged or self._packed.damaged
        return data


def repeats(reader: FileReader | GzipReader, marks: Iterable[Mark]) -> bool:
    """Whether the file holds what was read of one of these, packed or not."""
    if isinstance(reader, GzipReader):
        return any(mark.offset and same_content_gz(reader.path, mark) for mark in marks)
    return any(mark.offset and same_content(reader.descriptor, mark) for mark in marks)
