"""Where the processes of one machine leave their metrics for each other, and the care of those files.

Owns the directory (`PROMETHEUS_MULTIPROC_DIR`), which must be chosen before the first metric is made:
commands call `use` first. A process's files outlive it: counters must not fall when a worker is
replaced. So the files of dead processes are added up into those of a process number 0 that never was,
under a lock that scrapes share. Knows no metric.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Read by prometheus_client when it is imported.
ENV = "PROMETHEUS_MULTIPROC_DIR"
_FILE = re.compile(r"(?P<kind>counter|histogram|summary|gauge_[a-z]+)_(?P<pid>\d+)\.db")
_LOCK = "lock"


def use(data_dir: Path) -> Path:
    """Choose the directory for this process and its children: `data_dir/metrics/<host name>`.

    One that the environment names already is kept. What dead processes left is put in order.
    """
    found = os.environ.get(ENV)
    directory = Path(found) if found else data_dir.absolute() / "metrics" / socket.gethostname()
    directory.mkdir(parents=True, exist_ok=True)
    os.environ[ENV] = str(directory)
    fold_dead(directory)
    return directory


def directory() -> Path | None:
    """The directory in use, or None for a process on its own."""
    found = os.environ.get(ENV)
    return Path(found) if found else None


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Hold the files still while they are read."""
    with _locked(place, fcntl.LOCK_SH):
        yield


def fold_dead(place: Path) -> int:
    """Add the counts of dead processes to process 0 and remove their files; how many files went.

    Gauges of dead processes say nothing any more and are removed.
    """
    if not _dead(place):
        return 0
    from prometheus_client import mmap_dict

    files_of: Any = mmap_dict.MmapedDict

    with _locked(place, fcntl.LOCK_EX):
        gone = _dead(place)
        for kind in ("counter", "histogram", "summary"):
            files = [path for path, of_kind in gone if of_kind == kind]
            if files:
                total = files_of(str(place / f"{kind}_0.db"))
                for path in files:
                    for key, value, at, _ in files_of.read_all_values_from_file(str(path)):
                        known, _ = total.read_value(key)
                        total.write_value(key, known + value, at)
                total.close()
        for path, _ in gone:
            path.unlink(missing_ok=True)
    return len(gone)


def _dead(place: Path) -> list[tuple[Path, str]]:
    found = []
    for path in place.iterdir():
        name = _FILE.fullmatch(path.name)
        if name is not None and name["pid"] != "0" and not alive(int(name["pid"])):
            found.append((path, name["kind"]))
    return found


def alive(pid: int) -> bool:
    """Whether a process of this machine exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _locked(place: Path, how: int) -> Iterator[None]:
    with (place / _LOCK).open("a") as file:
        fcntl.flock(file, how)
        yield
