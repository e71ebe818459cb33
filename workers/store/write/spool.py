"""Parts on disk, for those that are too large for the memory budget.

Owns one unnamed temporary file a part; the bytes are reserved in the spool budget before it is opened. The
file has no name, so nothing is left when the process is killed.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO

from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from workers.store.memory import Reservation


class SpoolFile:
    """A part that is being filled, then sent, then gone. Takes the reservation over, whatever happens.

    Raises:
        StoreUnavailable: no file can be made there.
    """

    __slots__ = ("_leases", "file")

    def __init__(self, lease: Reservation, directory: Path | None) -> None:
        self._leases = [lease]
        try:
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
            # Not a context: it lives until the part is sent.
            self.file: BinaryIO = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except BaseException as error:
            lease.release()
            if isinstance(error, OSError):
                raise _disk(error) from error
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append; the page cache takes it, so this does not wait for the disk.

        Raises:
            StoreUnavailable: the disk is full, or fails.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise _disk(error) from error

    def extend(self, lease: Reservation) -> None:
        """Take over more of the budget."""
        self._leases.append(lease)

    def close(self) -> None:
        """Give the disk and the budget back; harmless when repeated."""
        self.file.close()
        for lease in self._leases:
            lease.release()


def _disk(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"limits.spool_bytes: no part can be kept on disk: {error.strerror or error}")
