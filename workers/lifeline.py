"""No process outlives the one that started it.

Owns the parent-death signal (Linux, `PR_SET_PDEATHSIG`). Who forks, as dramatiq's master does, calls
`tie_forks` before; executed children are started through this file as a script, which ties itself to its
parent and becomes the program. The signal comes when the spawning *thread* ends, so children are spawned from
main threads only.
Imports nothing but the standard library, so that the script form costs milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; nothing where that is not possible.

    `parent` is the process id of whoever started this one, known from before: when it has gone already (it
    ended between the fork and this call), this process is killed at once. `os.getppid()` asked here would be
    who adopted it, and that one lives.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def tie_forks() -> None:
    """From now on, whatever this process forks dies with it, from its first instruction on.

    Not later: a child that waits for its parent before it has asked for the signal would wait for ever.
    """
    parent = os.getpid()

    def note() -> None:
        nonlocal parent
        parent = os.getpid()

    os.register_at_fork(before=note, after_in_child=lambda: die_with_parent(parent))


def main(arguments: list[str]) -> None:
    """`PARENT_PID PROGRAM ARGUMENT…`: tie this process to its parent, then become the program."""
    parent, *command = arguments
    die_with_parent(int(parent))
    try:
        os.execv(command[0], command)  # noqa: S606 -- the program is ours, by absolute path
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
