"""The disk of spool, checkpoints and logs: small, so that it can be full; and logs that are rotated on it.

Owns the folder that may be mounted; where that is not allowed it never is full. Knows no part.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Its bytes, where it can be mounted.
_BYTES: Final = 256 << 20


class Disk:
    """Below `root`; `mount` before use."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._place = root / "disk"
        self._small = False
        self._rotations = 0
        #: Whoever writes a log holds it: between a copy and a truncation nothing may be written.
        self._writing = threading.Lock()
        self._torn = False
        self.data = self._place / "data"
        self.log = self._place / "access.log"
        #: What had reached the disk, by the number of the file.
        self.synced = root / "synced"

    def mount(self) -> None:
        """Make it."""
        self._place.mkdir(parents=True)
        self.synced.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "tmpfs", self._place],
            check=False, capture_output=True,
        )  # fmt: skip
        self._small = made.returncode == 0
        self.data.mkdir()
        self.log.touch()

    def unmount(self) -> None:
        """Keep the logs of all parts, beside it, and give it back."""
        kept = self._root / "logs"
        kept.mkdir(exist_ok=True)
        for file in self._place.glob("*.log*"):
            shutil.copy(file, kept)
        if self._small:
            subprocess.run(["umount", "-l", self._place], check=True)

    def log_of(self, part: str) -> Path:
        """Where a part writes what it says."""
        return self._place / f"{part}.log"

    # ------------------------------------------------------------------ the access log

    def write_line(self, line: str) -> bool:
        """Append a line to the access log, as a server does; False where the disk is full."""
        with self._writing, self.log.open("ab", buffering=0) as file:
            try:
                if self._torn:  # what was written of the one before
                    file.write(b"\n")
                body = f"{line}\n".encode()
                self._torn = True
                self._torn = file.write(body) != len(body)
            except OSError:
                return False
            return not self._torn

    def rotate(self) -> None:
        """As logrotate's `create`: the file moves away, a new one takes its name."""
        with self._writing:
            self.log.rename(self._next())
            self.log.touch()
            self._torn = False

    def copy_truncate(self) -> bool:
        """As its `copytruncate`; False where there is no room for the copy."""
        with self._writing:
            copy = self._next()
            try:
                shutil.copyfile(self.log, copy)
            except OSError:
                copy.unlink(missing_ok=True)
                return False
            self.log.write_bytes(b"")
            self._torn = False
            return True

    def _next(self) -> Path:
        self._rotations += 1
        return self.log.with_name(f"access.log.{self._rotations}")

    # ------------------------------------------------------------------ faults

    def fill(self) -> bool:
        """Write until nothing fits; False where it is not small."""
        if not self._small:
            return False
        with contextlib.suppress(OSError), (self._place / "ballast").open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        return True

    def free(self) -> None:
        """Take that back."""
        (self._place / "ballast").unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Of the consumer's checkpoints only that is left which had been flushed."""
        for file in (self.data / "consume").glob("*.json"):
            kept = self.synced / str(file.stat().st_ino)
            body = kept.read_bytes() if kept.exists() else b""
            with file.open("r+b") as opened:  # the same file, as on the disk that comes back
                opened.write(body)
                opened.truncate()
