"""Whether the configuration can be read, its secrets are to be had, and its directory can be written."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from scheduler.config.secret_files import secret_files
from scheduler.doctor.model import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding


def check(settings: Settings) -> list[Finding]:
    """The findings about settings that were read."""
    found = Subject("configuration")
    buckets = ", ".join(settings.buckets) or "none"
    found.ok("settings", f"read; buckets: {buckets}")
    if not settings.buckets:
        found.warning(
            "buckets",
            "no bucket is configured, and no `ferryman up` with one runs in this data_dir",
            "add one below `buckets:`, or run `ferryman init`",
        )
    for path, file in secret_files(settings):
        _secret_file(found, path, file)
    _data_dir(found, settings.data_dir)
    return found.findings


def _secret_file(found: Subject, path: str, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            empty = not opened.read(1)
            mode = os.fstat(opened.fileno()).st_mode
    except OSError as error:
        remedy = "create it, or let the user that runs Ferryman read it"
        found.failed("secrets", f"{path}: {file}: {error.strerror}", remedy, of=path)
        return
    public = path.endswith(("ca_file", "certificate_file"))
    if empty:
        found.failed("secrets", f"{path}: {file} is empty", "write the secret into it", of=path)
    elif not public and mode & stat.S_IROTH:
        found.warning("secrets", f"{path}: {file} can be read by everybody", f"chmod o-r {file}", of=path)
    else:
        found.ok("secrets", f"{path}: {file} can be read", of=path)


def _data_dir(found: Subject, data_dir: Path) -> None:
    place = data_dir.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    probe = place / f".ferryman-doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
    except OSError as error:
        remedy = "set data_dir to a directory that the user who runs Ferryman may write"
        found.failed("data_dir", f"{place} cannot be written: {error.strerror}", remedy)
    else:
        found.ok("data_dir", f"{data_dir.absolute()} can be written")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
