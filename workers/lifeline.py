"""No process outlives the one that started it.

Owns the parent-death signal (Linux, `PR_SET_PDEATHSIG`). Forked children, such as dramatiq's, call
`die_with_parent`; executed ones are started through this file as a script, which does the same and becomes
the program. The signal comes when the spawning *thread* ends, so children are spawned from main threads only.
Imports nothing but the standard library, so that the script form costs milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None, *, number: signal.Signals = signal.SIGKILL) -> bool:
    """Ask the kernel to send `number` to this process when its parent ends; False where that is not possible.

    `parent` is the process id of whoever started this one, known from before: when it has gone already (it
    ended between the fork and this call), the signal is sent at once. `os.getppid()` asked here would be who
    adopted this process, and that one lives.
    """
    if not sys.platform.startswith("linux"):
        return False
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        return False
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
    return True


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
