"""Which file this is, whatever its name is now.

Owns fingerprints: device, inode, and hashes of the bytes at the start and right before the offset. An inode
alone is reused; a name alone is rotated away; the bytes before the offset are what we have read. Knows no
checkpoint file.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes hashed at the start of a file, and before the offset.
HEAD_BYTES = 256
TAIL_BYTES = 1024
#: How gzip files and each of their members begin.
GZIP_MAGIC: Final = b"\x1f\x8b"
_STEP_BYTES = 1 << 20
#: What rotation appends to a name; nothing else beside a log is taken for a part of it.
_ROTATED = re.compile(r"[.\-_](?:\d[\d.\-_T]*|old|bak|prev)(?:\.gz)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in one particular file."""

    device: int
    inode: int
    #: First byte not consumed.
    offset: int
    #: Hash of the first `min(HEAD_BYTES, offset)` bytes, and of the last `min(TAIL_BYTES, offset)` before it.
    head: str
    tail: str
    #: Size when last seen, in bytes.
    size: int


def digest(data: bytes) -> str:
    """Hex of a 16-byte hash."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def same_content(descriptor: int, mark: Mark) -> bool:
    """Whether the file holds the bytes that were read up to the mark."""
    if os.fstat(descriptor).st_size < mark.offset:
        return False
    head = os.pread(descriptor, min(HEAD_BYTES, mark.offset), 0)
    before = min(TAIL_BYTES, mark.offset)
    tail = os.pread(descriptor, before, mark.offset - before)
    return digest(head) == mark.head and digest(tail) == mark.tail


def same_content_gz(path: Path, mark: Mark) -> bool:
    """Whether the unpacked file holds the bytes that were read up to the mark."""
    try:
        with gzip.open(path, "rb") as unpacked:
            head = unpacked.read(min(HEAD_BYTES, mark.offset))
            if digest(head) != mark.head:
                return False
            before = min(TAIL_BYTES, mark.offset)
            at, tail = len(head), head
            while at < mark.offset:
                piece = unpacked.read(min(_STEP_BYTES, mark.offset - at))
                if not piece:
                    return False
                at += len(piece)
                tail = (tail + piece)[-TAIL_BYTES:]
            return digest(tail[-before:] if before else b"") == mark.tail
    except (OSError, EOFError, zlib.error):
        return False


def is_beginning(path: Path, mark: Mark) -> bool:
    """Whether the file, packed or not, ends at or before the mark and begins with what was read.

    So does a copy that was made before the last lines were read of what was truncated then. A file shorter
    than a head cannot be told by its hash.
    """
    try:
        with content_of(path) as content:
            head = content.read(min(HEAD_BYTES, mark.offset))
            return bool(head) and digest(head) == mark.head and content.seek(0, os.SEEK_END) <= mark.offset
    except (OSError, EOFError, zlib.error):
        return False


def content_of(path: Path) -> BinaryIO:
    """The file, unpacked where it is packed, to be read and sought in.

    Raises:
        OSError: it cannot be opened.
    """
    return cast("BinaryIO", gzip.open(path, "rb")) if is_gzip(path) else path.open("rb")


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(2) == GZIP_MAGIC
    except OSError:
        return False


def family(path: Path) -> list[Path]:
    """Files beside `path` that rotation may have made of it, oldest change first.

    `access.log.1`, `access.log-20261121`, `access.log.2.gz`, and `access-20261121.log` (logrotate's
    `extension`).
    """
    found: list[tuple[float, Path]] = []
    stem, suffix = path.stem, path.suffix
    try:
        entries = list(os.scandir(path.parent))
    except OSError:
        return []
    for entry in entries:
        name = entry.name
        if name == path.name:
            continue
        appended = name.startswith(path.name) and _ROTATED.fullmatch(name, len(path.name)) is not None
        inserted = (
            bool(suffix)
            and name.startswith(f"{stem}-")
            and name.removesuffix(".gz").endswith(suffix)
            and name[len(stem) + 1].isdecimal()
        )
        try:
            if (appended or inserted) and entry.is_file():
                found.append((entry.stat().st_mtime, path.parent / name))
        except OSError:
            continue  # gone between listing and stat: rotation is at work
    return [one for _, one in sorted(found)]
