"""Following one log through rotation.

Owns what happens to a path over time: it appears, grows, is renamed away (its reader goes on until the writer
has let go), is truncated in place (the rest is looked for in the copy), is replaced, or changed while we were
away. What could not be read is a gap in bytes, reported and never silent. Reads files; knows no format, queue
or checkpoint file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from scheduler.logs.identity import Mark, family, is_beginning, is_gzip, same_content, same_content_gz
from scheduler.logs.reading import FileReader, GzipReader, Piece, repeats
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

log = structlog.get_logger(__name__)

#: Seconds after the last growth that a rotated file is watched for a writer that has not let go; while
#: nothing new has taken its name, this many times longer.
LINGER_S = 30.0
_UNREPLACED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Bytes that were written and could not be read."""

    path: Path
    bytes: int
    reason: str


class _Open:
    """A reader with what has been accepted from it."""

    def __init__(self, reader: FileReader | GzipReader, *, name: Path) -> None:
        self.reader = reader
        #: The path it belongs to, which may be another file by now.
        self.name = name
        self.accepted: Mark = reader.mark()
        self.pending = 0
        self.grew_at = 0.0

    def lag_bytes(self) -> int:
        return max(0, self.reader.size() - self.accepted.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Whole lines to be consumed; give it back to `Tail.accept` once the queue has them."""

    data: bytes
    mark: Mark
    source: _Open


class Tail:
    """One path. `poll` never blocks; `accept` moves what the checkpoint says."""

    def __init__(
        self,
        path: Path,
        *,
        marks: Sequence[Mark] = (),
        saved_at: float = 0.0,
        from_start: bool,
        linger_s: float = LINGER_S,
    ) -> None:
        """Take up the path where `marks`, saved with `seen_at` as `saved_at`, left it, else at start or end.

        Raises:
            ConfigError: the path is a directory, or may not be read.
        """
        self.path = path
        self.gaps: list[Gap] = []
        self.overlong = 0
        self._linger_s = linger_s
        #: Unix time, by the file system's clock, of the last change of any file of this path that we know of.
        self.seen_at = saved_at
        self._current: _Open | None = None
        self._rotated: list[_Open] = []
        self._refused = ""
        info: os.stat_result | None = None
        try:
            info = path.stat()
        except FileNotFoundError:
            pass  # it may appear later
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        if info is not None and stat.S_ISDIR(info.st_mode):
            raise ConfigError(f"{path}: is a directory; name files or a pattern such as {path}/*.log")
        if info is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"{path}: permission denied (user id {os.geteuid()})")
        if marks:
            self._resume(marks)
        elif info is not None:
            self._open_current(offset=0)
            if not from_start:
                self._skip_to_end()
        self._seen()

    @property
    def marks(self) -> list[Mark]:
        """What has been accepted of every file that belongs to the path: the checkpoint."""
        return [one.accepted for one in self._all()]

    @property
    def exists(self) -> bool:
        return self._current is not None or bool(self._rotated)

    def lag_bytes(self) -> int:
        """Bytes there are that the queue has not accepted yet."""
        return sum(one.lag_bytes() for one in self._all())

    def head(self, limit_bytes: int = 64 * 1024) -> bytes:
        """The first bytes of what is being read: for telling its format."""
        for one in self._all():
            if isinstance(one.reader, GzipReader):
                probe = GzipReader(one.reader.path)
                piece = probe.read(limit_bytes)
                probe.close()
                if piece is not None:
                    return piece.data
            else:
                data = os.pread(one.reader.descriptor, limit_bytes, 0)
                if data:
                    return data
        return b""

    def lines_before(self, literal: bytes) -> Iterator[bytes]:
        """Lines with `literal` before the next one of what is read first, the last one first."""
        for one in self._all()[:1]:
            yield from one.reader.lines_before(literal)

    def poll(self, limit_bytes: int, *, now: float, final: bool = False) -> Chunk | None:
        """The next whole lines of this path's files, oldest file first, or None.

        `now` is a monotonic clock in seconds. `final` also takes a last line that has no end yet.
        """
        self.watch(now)
        for one in list(self._rotated):
            patience_s = self._linger_s * (1 if self._current is not None else _UNREPLACED)
            gone = now - one.grew_at >= patience_s
            packed = isinstance(one.reader, GzipReader)
            piece = one.reader.read(limit_bytes, final=final or gone or packed)
            if piece is not None:
                one.grew_at = now
                return self._chunk(one, piece)
            if (gone or packed) and not one.pending:
                self._finish(one)
        if self._current is None:
            return None
        reader = self._current.reader
        piece = reader.read(limit_bytes, final=final)
        if piece is None:
            if isinstance(reader, GzipReader) and reader.damaged:
                self._gap(0, f"damaged: {reader.damaged}")
                reader.damaged = ""
            return None
        return self._chunk(self._current, piece)

    def accept(self, chunk: Chunk) -> None:
        """The queue has everything of the chunk."""
        chunk.source.pending -= 1
        chunk.source.accepted = chunk.mark

    def close(self) -> None:
        for one in self._all():
            one.reader.close()

    def _all(self) -> list[_Open]:
        return [*self._rotated, *([self._current] if self._current is not None else [])]

    def _chunk(self, one: _Open, piece: Piece) -> Chunk:
        one.pending += 1
        self.overlong += one.reader.overlong
        one.reader.overlong = 0
        return Chunk(data=piece.data, mark=piece.mark, source=one)

    def _finish(self, one: _Open) -> None:
        if isinstance(one.reader, GzipReader) and one.reader.damaged:
            self._gap(0, f"{one.reader.path.name} is damaged: {one.reader.damaged}")
        log.info("log_file_finished", path=str(one.reader.path), offset=one.reader.offset)
        one.reader.close()
        self._rotated.remove(one)
        self._seen()  # it may have been packed meanwhile

    def _gap(self, lost_bytes: int, reason: str) -> None:
        self.gaps.append(Gap(path=self.path, bytes=lost_bytes, reason=reason))
        log.warning("log_gap", path=str(self.path), bytes=lost_bytes, reason=reason)

    def _open(self, path: Path, *, offset: int = 0) -> _Open | None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                if self._refused != "type":
                    self._refused = "type"
                    log.warning("log_not_a_file", path=str(path))
                return None
            reader = GzipReader(path, offset=offset) if is_gzip(path) else FileReader(path, offset=offset)
        except FileNotFoundError:
            return None
        except OSError as error:
            if self._refused != str(error):
                self._refused = str(error)
                log.warning("log_unreadable", path=str(path), error=error.strerror or str(error))
            return None
        self._refused = ""
        return _Open(reader, name=self.path)

    def _open_current(self, *, offset: int) -> None:
        self._current = self._open(self.path, offset=offset)

    def watch(self, now: float) -> None:
        """Notice what happened to the path since the last look; `poll` does it too."""
        current = self._current
        try:
            info = self.path.stat()
        except OSError:
            if current is not None:
                # Renamed or removed: what is open is read to its end.
                self._retire(current, now)
            return
        if current is None:
            self._between(now)
            self._open_current(offset=0)
            return
        if isinstance(current.reader, GzipReader):
            return
        if (info.st_dev, info.st_ino) != (current.reader.device, current.reader.inode):
            self._retire(current, now)
            self._between(now)
            self._open_current(offset=0)
            log.info("log_rotated", path=str(self.path))
        elif not current.reader.intact():
            self._truncated(current, now)
        elif info.st_mtime > self.seen_at:
            if not current.reader.offset:  # of which nothing was read, may have been truncated
                self._between(now)
            self.seen_at = max(self.seen_at, info.st_mtime)

    def _skip_to_end(self) -> None:
        current = self._current
        if current is not None and isinstance(current.reader, FileReader):
            current.reader.seek_end()
            current.accepted = current.reader.mark()

    def _retire(self, current: _Open, now: float) -> None:
        current.grew_at = now
        self._rotated.append(current)
        self._current = None

    def _truncated(self, current: _Open, now: float) -> None:
        """Copied away and truncated in place: go on in the copy, then from the new start."""
        reader = current.reader
        if not isinstance(reader, FileReader):
            return
        unread_from = reader.mark()
        copy = self._find(unread_from, known={(reader.device, reader.inode)})
        if copy is not None:
            copy.grew_at = now
            self._rotated.append(copy)
            log.info("log_truncated", path=str(self.path), copy=str(copy.reader.path))
        others = self._between(now)
        if copy is None and (unread_from.offset or not others):
            lost = max(0, current.accepted.size - unread_from.offset)
            read = (
                None
                if lost
                else next((one for one in reversed(family(self.path)) if reader.has_read(one)), None)
            )
            if read is not None:
                log.info("log_truncated", path=str(self.path), copy=str(read))
            else:
                self._gap(lost, "truncated, and no copy of what was in it was found (at least these bytes)")
        reader.rewind()
        if not current.pending:
            current.accepted = reader.mark()

    def _resume(self, marks: Sequence[Mark]) -> None:
        """Find every file of the checkpoint again, and files that came between it and now."""
        taken: set[tuple[int, int]] = set()
        current: _Open | None = None
        for mark in marks:
            one = self._at_path(mark) or self._find(mark, known=taken)
            if one is None:
                lost = max(0, mark.size - mark.offset)
                if lost or not any(is_beginning(path, mark) for path in family(self.path)):
                    self._gap(lost, "the file of the checkpoint is gone (at least these, and later bytes)")
                continue
            taken.add((one.reader.device, one.reader.inode))
            if one.reader.path == self.path:
                current = one
            else:
                self._rotated.append(one)
        self._current = current
        self._between(0.0, marks)
        if current is None:
            self._open_current(offset=0)

    def _between(self, now: float, marks: Sequence[Mark] = ()) -> int:
        """Open files that came after all that is known and were rotated away before we looked; how many.

        Both rotations may lie between two looks: of a process that stood still, or was away.
        """
        marks = [*marks, *(one.reader.mark() for one in self._all())]
        taken = {(one.reader.device, one.reader.inode) for one in self._all()}
        found, known = 0, self.seen_at
        for path in family(self.path):
            changed_at = self._changed_at(path)
            if changed_at <= known:
                continue
            self.seen_at = max(self.seen_at, changed_at)
            if _identity(path) in taken or self._has_read(path):
                continue
            one = self._open(path)
            if one is None:
                continue
            if repeats(one.reader, marks):  # packed beside its original
                one.reader.close()
                continue
            log.info("log_rotated_meanwhile", path=str(path))
            one.grew_at = now
            self._rotated.append(one)
            found += 1
        return found

    def _has_read(self, path: Path) -> bool:
        """Whether it is a beginning of what was read under the path itself."""
        reader = self._current.reader if self._current is not None else None
        return isinstance(reader, FileReader) and reader.has_read(path)

    def _seen(self) -> None:
        """Whatever is there now is known."""
        self.seen_at = max(self.seen_at, *map(self._changed_at, (self.path, *family(self.path))))

    @staticmethod
    def _changed_at(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0  # gone again

    def _at_path(self, mark: Mark) -> _Open | None:
        """The file under the path itself, when it is that of the mark."""
        one = self._open(self.path, offset=0)
        if one is None:
            return None
        reader = one.reader
        same = (reader.device, reader.inode) == (mark.device, mark.inode)
        if isinstance(reader, GzipReader):
            reader.close()
            return self._open(self.path, offset=mark.offset) if same else None
        if same and same_content(reader.descriptor, mark):
            reader.close()
            return self._open(self.path, offset=mark.offset)
        reader.close()
        return None

    def _find(self, mark: Mark, *, known: set[tuple[int, int]]) -> _Open | None:
        """Where the file of the mark went: by inode and content, else by content alone, packed or not."""
        siblings = [path for path in reversed(family(self.path)) if _identity(path) not in known]
        for by_inode in (True, False):
            for path in siblings:
                if by_inode and _identity(path) != (mark.device, mark.inode):
                    continue
                if not by_inode and mark.offset == 0:
                    continue
                if is_gzip(path):
                    if same_content_gz(path, mark):
                        return self._open(path, offset=mark.offset)
                    continue
                one = self._open(path)
                if one is None or not isinstance(one.reader, FileReader):
                    continue
                same = same_content(one.reader.descriptor, mark)
                one.reader.close()
                if same:
                    return self._open(path, offset=mark.offset)
        return None


def _identity(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError:
        return (-1, -1)
    return (info.st_dev, info.st_ino)
