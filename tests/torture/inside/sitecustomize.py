"""Inside each part under torture: a wall clock that can be set, a record of what has reached the disk, and
its own ways to the origins.

Python runs this at start, because its folder is on the part's PYTHONPATH. The clock is `time.time`,
`time_ns`, `datetime.now` and `utcnow`, which is all that the house and its libraries read; monotonic time
goes on. After each fsync of a file below the data folder a copy of its contents is kept by the file's number:
with those `Disk.lose_power` leaves what a machine would that was switched off. Rules name each origin's own
port, which is the same for all parts; whoever connects to it gets the cable of this part.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import signal
import socket
import sys
import time

_CLOCK = os.environ.get("TORTURE_CLOCK")
_DATA = os.environ.get("TORTURE_DATA")
_SYNCED = os.environ.get("TORTURE_SYNCED")
#: `port=port of the cable`, with commas between.
_WAYS = os.environ.get("TORTURE_WAYS")
#: Seconds of real time between two looks at the file that says how wrong the clock is.
_LOOK_S = 0.2

_time, _time_ns, _monotonic, _fsync = time.time, time.time_ns, time.monotonic, os.fsync
_looked_at = -_LOOK_S
_wrong_s = 0.0


def _wrong() -> float:
    global _looked_at, _wrong_s  # noqa: PLW0603 -- one clock a process
    now = _monotonic()
    if now - _looked_at >= _LOOK_S:
        _looked_at = now
        try:
            with open(_CLOCK, encoding="ascii") as file:
                _wrong_s = float(file.read() or 0)
        except (OSError, ValueError):
            _wrong_s = 0.0
    return _wrong_s


def _set_clock() -> None:
    time.time = lambda: _time() + _wrong()
    time.time_ns = lambda: _time_ns() + int(_wrong() * 1e9)
    # A built-in type takes no attributes by assignment, and a subclass would be another type to C libraries.
    members = gc.get_referents(datetime.datetime.__dict__)[0]
    members["now"] = classmethod(lambda cls, tz=None: cls.fromtimestamp(time.time(), tz))
    members["utcnow"] = classmethod(
        lambda cls: cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)
    )
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


def _recorded_fsync(fd: int) -> None:
    _fsync(fd)
    number = fd if isinstance(fd, int) else fd.fileno()
    path = os.readlink(f"/proc/self/fd/{number}")
    if not path.startswith(f"{_DATA}/") or os.path.isdir(path):
        return
    kept = os.path.join(_SYNCED, str(os.fstat(number).st_ino))
    with open(path, "rb") as file, open(f"{kept}.{os.getpid()}", "wb") as copy:
        copy.write(file.read())
    os.replace(copy.name, kept)


def _set_ways() -> None:
    ways = {int(port): int(cable) for port, cable in (way.split("=") for way in _WAYS.split(","))}
    connect = socket.socket.connect

    def by_cable(self, address):
        if self.family == socket.AF_INET and address[1] in ways:
            address = (address[0], ways[address[1]])
        return connect(self, address)

    socket.socket.connect = by_cable


def _tell_tasks(*_) -> None:
    """Where each task of this process waits, into its log: for what stands still."""
    import asyncio

    for task in [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]:
        inner, way = task.get_coro(), []
        while inner is not None and len(way) < 50:
            frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
            if frame is not None:
                way.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
        told = "\n    ".join([f"task {task.get_name()} of {os.getpid()}:", *way])
        sys.stderr.write(f"{told}\n")


if _CLOCK:
    signal.signal(signal.SIGUSR2, _tell_tasks)
    _set_clock()
if _DATA and _SYNCED:
    os.fsync = _recorded_fsync
if _WAYS:
    _set_ways()
