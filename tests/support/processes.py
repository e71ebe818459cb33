"""Real servers as child processes of the tests: health checks, and an end that is certain."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a child before exec: get SIGKILL when the spawning thread ends (so spawn from the main thread)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerDidNotStart(RuntimeError):
    """A test server ended or stayed silent; carries the tail of its log."""


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str],
    timeout_s: float = 60.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; enter it only when `ready` says so."""
    with (
        log.open("ab") as out,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- tests spawn before they start threads of their own
        ) as process,
    ):
        try:
            deadline = time.monotonic() + timeout_s
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_bytes()[-4000:].decode(errors="replace")
                    raise ServerDidNotStart(f"{command[0]}: exit {process.returncode}\n{tail}")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
