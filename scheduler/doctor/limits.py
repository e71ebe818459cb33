"""Whether this machine gives a process what the settings promise: files, memory, disk."""

from __future__ import annotations

import os
import resource
import shutil
from typing import TYPE_CHECKING

from scheduler.doctor.model import Subject

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding

MIB = 2**20


def check(settings: Settings) -> list[Finding]:
    """The findings about this machine."""
    found = Subject("limits")
    _files(found, settings)
    _memory(found, settings)
    _disk(found, settings)
    return found.findings


def _files(found: Subject, settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.store.max_connections + 4 * settings.limits.item_concurrency + 256
    if soft < needed:
        remedy = (
            f"raise it: `ulimit -n {max(needed, 65_536)}`, or LimitNOFILE= in the unit (hard limit {hard})"
        )
        level = found.failed if soft < 256 else found.warning
        level("open_files", f"{soft} open files are allowed, {needed} may be needed", remedy)
    else:
        found.ok("open_files", f"{soft} open files are allowed")


def _memory(found: Subject, settings: Settings) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    processes = settings.gateway.processes + 2 * max(1, (os.cpu_count() or 2) // 2)
    promised = processes * settings.limits.memory_bytes
    message = f"{processes} processes may hold {promised / MIB:.0f} MiB of {total / MIB:.0f} MiB"
    if promised > total * 0.8:
        found.warning("memory", message, "lower limits.memory_bytes or the number of processes")
    else:
        found.ok("memory", message)


def _disk(found: Subject, settings: Settings) -> None:
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    wanted = settings.limits.spool_bytes
    message = f"{free / MIB:.0f} MiB free in {place}"
    if free < wanted:
        remedy = f"make room, or lower limits.spool_bytes ({wanted / MIB:.0f} MiB a process)"
        found.warning("disk", message, remedy)
    else:
        found.ok("disk", message)
