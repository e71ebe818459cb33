"""The data directory: who holds it, and the small private files in it.

Owns the lock (one `ferryman up` a directory), files that only their owner may read (0600), generated secrets.
The kernel frees the lock when its holder ends in whatever way: none can be stale.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from workers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

LOCK_FILE = "lock"
TOKEN_FILE = "admin-token"  # noqa: S105 -- a file's name


class DataDirLock:
    """The exclusive right to run in one data directory, as a context; the file names the holder's process."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._fd: int | None = None

    def __enter__(self) -> Self:
        make_private_dir(self._path.parent)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + 1.0  # whoever only looks holds it for an instant
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    os.close(fd)
                    msg = (
                        f"another `ferryman up` (process {holder}) runs in {self._path.parent.resolve()}: "
                        "stop it, or give this one its own with `data_dir:` (FERRYMAN_DATA_DIR)"
                    )
                    raise ConfigError(msg) from None
                time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def holder(data_dir: Path) -> int | None:
    """Process id of the `ferryman up` that runs in this directory, or None."""
    try:
        fd = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(fd)
    return None


def make_private_dir(path: Path) -> None:
    """Create a directory that only its owner may enter; one that exists is left as it is.

    Raises:
        ConfigError: it cannot be made, or it is a file.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = (
            f"data_dir {path}: {error.strerror}; set `data_dir:` (FERRYMAN_DATA_DIR) to a writable directory"
        )
        raise ConfigError(msg) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically by one with mode 0600."""
    make_private_dir(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file.

    Raises:
        ConfigError: the file cannot be read or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{path}: {error}; delete it to have it made anew"
        raise ConfigError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path}: a JSON object is expected; delete it to have it made anew"
        raise ConfigError(msg)
    return value


def admin_token(data_dir: Path) -> str:
    """The token of the admin side: generated on first use, kept with mode 0600."""
    path = data_dir / TOKEN_FILE
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(32)
        write_private(path, token + "\n")
    return token
