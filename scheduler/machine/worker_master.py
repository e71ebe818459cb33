"""dramatiq's own command line as the master of worker processes, with our logging; they do not outlive it.

Not even to drain: a drain waits for Redis, and that may have ended together with the master. Nor to say that
they have booted: who sets dramatiq's event for that waits for a master that waits for it.

Its arguments are dramatiq's. Run as a module: `python -m scheduler.machine.worker_master
workers.queue.entry:broker …`.
"""

from __future__ import annotations

import runpy
import sys

from workers.collector import be_patient
from workers.lifeline import tie_forks
from workers.telemetry import log


def main() -> None:
    """Configure logging as the parent said, then become `python -m dramatiq`."""
    be_patient()
    tie_forks()
    log.configure_from_env()
    sys.argv[0] = "dramatiq"
    runpy.run_module("dramatiq", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
