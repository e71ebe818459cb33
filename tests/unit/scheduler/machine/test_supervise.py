"""The supervisor, with small real children."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from scheduler.machine.supervise import Child, ChildFailed, Supervisor
from support.installation import alive
from support.patience import PATIENCE_S

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)"
)


def child(tmp_path, code: str = SLEEP, *, name: str = "part", **more) -> Child:
    return Child(
        name=name,
        command=(sys.executable, "-c", code),
        env=dict(os.environ),
        log=tmp_path / f"{name}.log",
        **more,
    )


async def until(condition, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_leaving_the_context_ends_every_child(tmp_path):
    async with Supervisor() as supervisor:
        pids = [await supervisor.start(child(tmp_path, name=name)) for name in "ab"]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


async def test_a_child_that_dies_is_started_again(tmp_path):
    async with Supervisor() as supervisor:
        pid = await supervisor.start(child(tmp_path))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.restarts()["part"] == 1 and supervisor.pids()["part"] != pid)
        assert alive(supervisor.pids()["part"])


async def test_a_child_that_cannot_be_spawned_for_a_while_is_tried_until_it_can(tmp_path, monkeypatch):
    """A full disk (its log), or too many processes: nobody else would start it again."""
    async with Supervisor() as supervisor:
        pid = await supervisor.start(child(tmp_path))
        spawn = supervisor._spawn
        refused = []

        async def full(which):
            if len(refused) < 2:
                refused.append(which.name)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return await spawn(which)

        monkeypatch.setattr(supervisor, "_spawn", full)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.pids()["part"] != pid)
        assert refused == ["part", "part"]
        assert alive(supervisor.pids()["part"])


async def test_a_child_that_keeps_failing_is_tried_with_growing_pauses(tmp_path):
    async with Supervisor() as supervisor:
        await supervisor.start(child(tmp_path, "import time; time.sleep(0.2)"))
        began = time.monotonic()
        await until(lambda: supervisor.restarts()["part"] >= 3)
        # It lives for 0.2 s each time; pauses of 0.2 and 0.4 s come between.
        assert time.monotonic() - began > 1.0


async def test_a_child_that_ends_at_start_is_an_error_with_its_code_and_its_last_lines(tmp_path):
    async with Supervisor() as supervisor:
        never = child(tmp_path, "import sys; print('the reason'); sys.exit(3)", ready=_never)
        with pytest.raises(ChildFailed, match="exit code 3") as caught:
            await supervisor.start(never)
        assert caught.value.code == 3
        assert "the reason" in str(caught.value)
        assert supervisor.pids() == {}


async def test_a_child_that_stays_silent_is_an_error_and_is_ended(tmp_path):
    async with Supervisor() as supervisor:
        with pytest.raises(ChildFailed, match="did not become ready within 0 s"):
            await supervisor.start(child(tmp_path, ready=_never, start_s=0.3))
        assert supervisor.pids() == {}


async def test_a_program_that_is_missing_is_an_error(tmp_path):
    async with Supervisor() as supervisor:
        missing = Child(
            name="part", command=("/nowhere/program",), env={}, log=tmp_path / "log", ready=_never
        )
        with pytest.raises(ChildFailed, match="No such file"):
            await supervisor.start(missing)


async def test_stages_end_one_after_the_other(tmp_path):
    supervisor = Supervisor()
    pids = {}
    for name, stage in (("store", 2), ("front", 0), ("worker", 1)):
        pids[name] = await supervisor.start(child(tmp_path, name=name, stage=stage))
    seen = []

    def told(names: list[str]) -> None:
        seen.append((names, [name for name in ("front", "worker", "store") if alive(pids[name])]))

    await supervisor.stop(on_stage=told)
    assert seen == [
        (["front"], ["front", "worker", "store"]),
        (["worker"], ["worker", "store"]),
        (["store"], ["store"]),
    ]


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    stubborn = child(tmp_path, STUBBORN, stop_s=0.3, ready=lambda: _said(tmp_path, "up"))
    async with Supervisor() as supervisor:
        pid = await supervisor.start(stubborn)
    assert not alive(pid)


async def test_children_are_not_spawned_from_other_threads(tmp_path):
    failures = []

    def elsewhere() -> None:
        try:
            asyncio.run(Supervisor().start(child(tmp_path)))
        except RuntimeError as error:
            failures.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert failures == ["children are spawned from the main thread only"]


def test_a_killed_parent_takes_its_children_along(tmp_path):
    code = f"""
import asyncio, os, sys
from pathlib import Path
from scheduler.machine.supervise import Child, Supervisor
async def main():
    supervisor = Supervisor()
    command = (sys.executable, "-c", {SLEEP!r})
    child = Child(name="c", command=command, env=dict(os.environ), log=Path({str(tmp_path)!r}) / "c")
    print(await supervisor.start(child), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_shim_does_not_start_the_program_when_its_parent_is_gone_already(tmp_path):
    import workers.lifeline

    flag = tmp_path / "ran"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", workers.lifeline.__file__, "1", "/bin/sh", "-c", f"touch {flag}"],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert not flag.exists()


async def _never() -> bool:
    return False


async def _said(tmp_path, what: str) -> bool:
    return what in (tmp_path / "part.log").read_text()
