"""Forked children and the process that forked them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from support.installation import alive

PARENT = textwrap.dedent("""
    import os, sys, time

    from workers.lifeline import tie_forks

    when, forked, parent = sys.argv[1], sys.argv[2], os.getpid()

    def outlast():
        while when == "at once" and os.getppid() == parent:
            time.sleep(0.005)

    os.register_at_fork(after_in_child=outlast)
    tie_forks()
    child = os.fork()
    if child:
        print(child, flush=True)
        while when == "later" and not os.path.exists(forked):
            time.sleep(0.005)
        os._exit(0)
    os.close(1)
    open(forked, "w").close()
    time.sleep(60)
""")


@pytest.mark.parametrize("when", ["at once", "later"])
def test_what_a_process_has_forked_ends_with_it(tmp_path, when):
    forked = tmp_path / "forked"
    done = subprocess.run(
        [sys.executable, "-c", PARENT, when, str(forked)],
        check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while alive(int(done.stdout)):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)
    assert forked.exists() == (when == "later")
