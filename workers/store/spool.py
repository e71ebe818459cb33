"""Parts on disk, for those that are too large for the memory budget.

Owns one unnamed temporary file a part; the bytes are reserved in the spool budget before it is opened. The
file has no name, so nothing is left when the process is killed.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

    from workers.store.memory import Reservation


class SpoolFile:
    """A part that is being filled, then sent, then gone."""

    __slots__ = ("_lease", "file", "n_bytes")

    def __init__(self, lease: Reservation, directory: Path | None) -> None:
        self._lease = lease
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        # Not a context: it lives until the part is sent.
        self.file: BinaryIO = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self.n_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append; the page cache takes it, so this does not wait for the disk."""
        view = memoryview(data)
        while view:
            written = self.file.write(view)
            self.n_bytes += written
            view = view[written:]

    def close(self) -> None:
        """Give the disk and the budget back; harmless when repeated."""
        self.file.close()
        self._lease.release()
