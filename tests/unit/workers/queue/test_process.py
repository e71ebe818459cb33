"""A worker process and the master that forked it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

MASTER = textwrap.dedent("""
    import multiprocessing, os, sys, time
    from pathlib import Path

    from workers.plan import Lane
    from workers.queue.process import WorkerProcess

    def boot(late, master, booted):
        os.close(1)
        while late and os.getppid() == master:
            time.sleep(0.005)
        WorkerProcess(None, Lane.HOT, group="g").after_process_boot(None)
        Path(booted).touch()
        time.sleep(60)

    if __name__ == "__main__":
        late, booted = sys.argv[1] == "late", sys.argv[2]
        worker = multiprocessing.get_context("fork").Process(target=boot, args=(late, os.getpid(), booted))
        worker.start()
        print(worker.pid, flush=True)
        while not late and not os.path.exists(booted):
            time.sleep(0.005)
        os._exit(0)
""")


@pytest.mark.parametrize("when", ["late", "in time"])
def test_a_worker_whose_master_has_ended_is_gone_even_if_it_was_still_booting(tmp_path, when):
    """Else it takes messages for ever, and whoever stopped the workers has one of a version before."""
    booted = tmp_path / "booted"
    done = subprocess.run(
        [sys.executable, "-c", MASTER, when, str(booted)],
        check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    worker, deadline = Path(f"/proc/{int(done.stdout)}"), time.monotonic() + 20
    while worker.exists() and " Z " not in (worker / "stat").read_text():
        assert time.monotonic() < deadline, "the worker outlived its master"
        time.sleep(0.02)
    assert booted.exists() == (when == "in time")
