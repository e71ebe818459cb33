"""Where each log was accepted up to, on disk.

Owns one JSON file per consumer, replaced atomically: written beside it, flushed to the disk, renamed. Knows
no log. A file that cannot be read is an error for the operator, never a silent start from nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING

import orjson
from pydantic import TypeAdapter, ValidationError

from scheduler.logs.identity import Mark  # noqa: TC001 -- pydantic reads it at run time
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path: its files' marks, oldest first, and up to when its files were known."""

    marks: tuple[Mark, ...]
    #: Unix seconds, by the clock of the file system: the last change of any file of the path that was known.
    #: What changed later came while nobody looked. (A clock of our own may step.)
    saved_at: float
    #: Format that was detected, for the record.
    format: str = ""


@dataclass(slots=True)
class _Document:
    version: int
    files: dict[str, Entry] = field(default_factory=dict)


_DOCUMENT: TypeAdapter[_Document] = TypeAdapter(_Document)


class Checkpoint:
    """The checkpoint file of one consumer; `hold` keeps a second consumer from using it.

    Without a path nothing is remembered: for a dry run.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._changed = False
        self._saving = threading.Lock()

    @contextlib.contextmanager
    def hold(self) -> Iterator[Checkpoint]:
        """Read it and keep it locked.

        Raises:
            ConfigError: another consumer holds it, or it is damaged.
        """
        if self.path is None:
            yield self
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_suffix(".lock")
        with lock.open("a+b") as handle:
            self._lock(handle, lock)
            self._load(self.path)
            yield self

    def _lock(self, handle: IO[bytes], lock: Path) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{lock}: another consumer is reading these logs; stop it, or give this one its own --name"
            ) from error

    def _load(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            document = _DOCUMENT.validate_python(orjson.loads(raw))
        except (orjson.JSONDecodeError, ValidationError) as error:
            raise ConfigError(
                f"{path}: damaged checkpoint ({error.__class__.__name__}); "
                "move it away to start anew with --from-start or --from-end"
            ) from error
        if document.version != VERSION:
            raise ConfigError(f"{path}: checkpoint of version {document.version}, expected {VERSION}")
        self._entries = document.files

    def entry(self, path: Path) -> Entry | None:
        """What is known of a path."""
        return self._entries.get(str(path))

    def paths(self) -> list[str]:
        """Every path it knows."""
        return list(self._entries)

    def put(self, path: Path, marks: list[Mark], *, seen_at: float, format_name: str = "") -> None:
        """Remember marks, of files that were known up to `seen_at`; `save` writes them."""
        entry = Entry(marks=tuple(marks), saved_at=seen_at, format=format_name)
        known = self._entries.get(str(path))
        if known is None or known.marks != entry.marks:
            self._entries[str(path)] = entry
            self._changed = True

    def save(self) -> None:
        """Write what has changed, so that a crash leaves the old file or the new one.

        May be called in a thread: who calls meanwhile waits, and then writes what has come since.
        """
        if self.path is None:
            return
        with self._saving:
            if not self._changed:
                return
            # Before the entries are read: what is put from here on is written the next time.
            self._changed = False
            entries = self._entries.copy()
            try:
                _write(self.path, entries)
            except BaseException:
                self._changed = True
                raise


def _write(path: Path, entries: dict[str, Entry]) -> None:
    body = orjson.dumps({"version": VERSION, "files": {name: asdict(one) for name, one in entries.items()}})
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
