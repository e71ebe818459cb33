"""Child processes that are kept alive, and certain to end.

Owns spawning (through `workers/lifeline.py`, so that a killed parent leaves no orphan), readiness, restart
with back-off, health checks, and the ordered stop: stage by stage, SIGTERM first, SIGKILL after the child's
grace. Knows nothing of what the children do. Spawns from the main thread only, because the parent-death
signal comes when the spawning thread ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import structlog

import workers.lifeline
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = structlog.get_logger(__name__)

_SHIM = str(Path(workers.lifeline.__file__).resolve())
#: A log larger than this is set aside (one old one is kept) when its child starts.
_LOG_BYTES = 20 * 1024 * 1024
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
#: A child that lived this long starts again without a growing pause.
_STEADY_S = 30.0
_HEALTH_EVERY_S = 5.0
#: Health checks may fail this long before a child that still runs is killed and started again.
_UNHEALTHY_S = 60.0


class ChildFailed(FerrymanError):
    """A child did not become ready; `code` is its exit code, None when it was silent.

    The message ends with the tail of its log.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What to run, and how to know, watch and end it."""

    #: For messages: `store`, `worker hot`.
    name: str
    command: tuple[str, ...]
    #: The whole environment.
    env: Mapping[str, str]
    cwd: Path | None = None
    #: Output goes here, or to our stderr.
    log: Path | None = None
    #: True when it serves. None: running is enough.
    ready: Callable[[], Awaitable[bool]] | None = None
    #: Seconds to become ready at first.
    start_s: float = 30.0
    #: Lower stages end first; within one stage all at once.
    stage: int = 0
    #: Seconds between SIGTERM and SIGKILL.
    stop_s: float = 10.0
    #: Descriptors that it inherits, by the same numbers.
    fds: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    started: float
    keeper: asyncio.Task[None] | None = None
    restarts: int = 0
    #: Set while it is up and ready.
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs children until `stop`. Use as an async context: leaving it stops them all."""

    def __init__(self) -> None:
        self._running: list[_Running] = []
        self._stopping = False
        self._clock = time.monotonic

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, child: Child) -> int:
        """Start it and wait until it is ready; from then on it is kept alive. Returns its process id.

        Raises:
            ChildFailed: it ended or stayed silent for `start_s`.
        """
        running = await self._spawn(child)
        self._running.append(running)
        try:
            await self._wait_ready(running)
        except ChildFailed:
            self._running.remove(running)
            await self._end(running)
            raise
        running.keeper = asyncio.create_task(self._keep(running), name=f"keep {child.name}")
        return running.process.pid

    def pids(self) -> dict[str, int]:
        """Name and process id of each child."""
        return {running.child.name: running.process.pid for running in self._running}

    def restarts(self) -> dict[str, int]:
        """Name of each child and how often it had to be started again."""
        return {running.child.name: running.restarts for running in self._running}

    async def stop(self, *, on_stage: Callable[[list[str]], None] | None = None) -> None:
        """End all children, lowest stage first; `on_stage` is told the names before each."""
        self._stopping = True
        keepers = [running.keeper for running in self._running if running.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for stage in sorted({running.child.stage for running in self._running}):
            members = [running for running in self._running if running.child.stage == stage]
            if on_stage is not None:
                on_stage([running.child.name for running in members])
            await asyncio.gather(*(self._end(running) for running in members))
        self._running.clear()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the child of this name, where it runs."""
        for running in self._running:
            if running.child.name == name:
                _signal(running.process, number)

    def kill(self) -> None:
        """SIGKILL to all at once: for the second Ctrl-C."""
        for running in self._running:
            _signal(running.process, signal.SIGKILL)

    async def _spawn(self, child: Child) -> _Running:
        if threading.current_thread() is not threading.main_thread():
            msg = "children are spawned from the main thread only"
            raise RuntimeError(msg)
        with contextlib.ExitStack() as stack:
            output: IO[bytes] | int
            if child.log is None:
                output = sys.stderr.fileno()
            else:
                child.log.parent.mkdir(parents=True, exist_ok=True)
                if child.log.exists() and child.log.stat().st_size > _LOG_BYTES:
                    child.log.replace(child.log.with_suffix(".log.1"))
                output = stack.enter_context(child.log.open("ab"))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                _SHIM,
                str(os.getpid()),
                *child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(child.env),
                cwd=child.cwd,
                pass_fds=child.fds,
                start_new_session=True,
            )
        return _Running(child=child, process=process, started=self._clock())

    async def _wait_ready(self, running: _Running) -> None:
        child = running.child
        deadline = self._clock() + child.start_s
        if child.ready is None:
            # Long enough to see a wrong command or a refused option.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.process.wait(), 0.05)
        while running.process.returncode is None:
            if child.ready is None or await child.ready():
                running.ready.set()
                return
            if self._clock() > deadline:
                msg = f"{child.name} did not become ready within {child.start_s:.0f} s{_tail(child)}"
                raise ChildFailed(msg)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.process.wait(), 0.05)
        msg = f"{child.name} ended with {_describe_exit(running.process.returncode)} at start{_tail(child)}"
        raise ChildFailed(msg, code=running.process.returncode)

    async def _keep(self, running: _Running) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            await self._until_it_fails(running)
            running.ready.clear()
            if self._clock() - running.started > _STEADY_S:
                pause = _FIRST_PAUSE_S
            code = running.process.returncode
            running.restarts += 1
            log.warning(
                "child_ended",
                child=running.child.name,
                exit=_describe_exit(code),
                restart_in_s=pause,
                restarts=running.restarts,
                log=str(running.child.log or "stderr"),
            )
            fresh: _Running | None = None
            while fresh is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                try:
                    fresh = await self._spawn(running.child)
                except OSError as error:
                    # No room for its log, no process left: that may pass, and nobody else would try again.
                    log.error("child_not_spawned", child=running.child.name, error=str(error))  # noqa: TRY400 -- it says it all
            running.process, running.started = fresh.process, fresh.started
            try:
                await self._wait_ready(running)
            except ChildFailed as error:
                log.error("child_not_ready", child=running.child.name, error=str(error))  # noqa: TRY400 -- a person reads the tail, not our stack
                _signal(running.process, signal.SIGKILL)
                continue
            log.info("child_restarted", child=running.child.name, pid=running.process.pid)

    async def _until_it_fails(self, running: _Running) -> None:
        """Return when the process has ended, by itself or because its health check failed for too long."""
        child = running.child
        last_good = self._clock()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.process.wait(), _HEALTH_EVERY_S)
                return
            if child.ready is None or await child.ready():
                last_good = self._clock()
            elif self._clock() - last_good > _UNHEALTHY_S:
                log.error("child_unhealthy", child=child.name, silent_s=round(self._clock() - last_good))
                _signal(running.process, signal.SIGKILL)
                await running.process.wait()
                return

    async def _end(self, running: _Running) -> None:
        if running.process.returncode is not None:
            return
        _signal(running.process, signal.SIGTERM)
        try:
            await asyncio.wait_for(running.process.wait(), running.child.stop_s)
        except TimeoutError:
            log.warning("child_killed", child=running.child.name, after_s=running.child.stop_s)
            _signal(running.process, signal.SIGKILL)
            await running.process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def _tail(child: Child) -> str:
    """The last lines of a child's log, for the message of its failure."""
    if child.log is None or not child.log.exists():
        return ""
    with child.log.open("rb") as file:
        file.seek(max(0, child.log.stat().st_size - 4000))
        lines = file.read().decode("utf-8", "replace").splitlines()[-15:]
    return f"; {child.log} ends:\n  " + "\n  ".join(lines) if lines else f"; {child.log} is empty"
