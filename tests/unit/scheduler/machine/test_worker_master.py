"""A master of worker processes that is killed, whatever its workers are about."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from support.installation import alive
from support.processes import die_with_parent

#: A broker that is not there: while it is looked for, or when it was.
BROKERS = {
    "booting": "import os, time\nopen('booted', 'w').write(f'{os.getpid()} ')\ntime.sleep(60)\n",
    "failing": (
        "import os, time\nopen('booted', 'w').write(f'{os.getpid()} ')\n"
        "while not os.path.exists('killed'): time.sleep(0.01)\n"
        "raise ImportError('half of a release')\n"
    ),
}


@pytest.mark.parametrize("worker", BROKERS)
def test_a_worker_is_gone_with_its_master_before_it_has_booted(tmp_path, worker):
    """Else it takes messages for ever in the version of then, or waits for ever to say that it has failed."""
    (tmp_path / "broken.py").write_text(BROKERS[worker])
    booted, deadline = tmp_path / "booted", time.monotonic() + 60
    master = subprocess.Popen(
        [sys.executable, "-m", "scheduler.machine.worker_master", "broken:broker",
         "--processes", "1", "--threads", "1", "--path", str(tmp_path)],
        cwd=tmp_path, preexec_fn=die_with_parent,  # noqa: PLW1509 -- nothing else runs in this process
    )  # fmt: skip
    try:
        while not (booted.exists() and booted.read_text().endswith(" ")):
            assert time.monotonic() < deadline, "no worker was forked"
            time.sleep(0.02)
    finally:
        master.kill()
        master.wait()
    (tmp_path / "killed").touch()
    deadline = time.monotonic() + 20
    while alive(int(booted.read_text())):
        assert time.monotonic() < deadline, "the worker outlived its master"
        time.sleep(0.02)
