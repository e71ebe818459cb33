"""The processes of an installation as children: fronts, scans, workers of each lane, consumers.

Owns their command lines and environments; running them is `supervise`'s work. Children get resolved settings
(no `embedded` in them) and none of our own `FERRYMAN_*` overrides, which are in those settings already.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.machine.supervise import Child
from scheduler.machine.worker_health import WorkerGroup
from workers.broker_address import identity_of
from workers.plan import Lane
from workers.settings import reveal_json
from workers.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from scheduler.config.settings import Settings

STAGE_FRONT = 0
STAGE_WORKERS = 1
#: Seconds that a process gets beyond `limits.drain_s` before it is killed.
GRACE_S = 10.0
#: Seconds for worker processes to import and connect on a slow machine.
_WORKER_START_S = 120.0
#: Milliseconds between looks of a consumer whose process has all that it may take, and of threads that shall
#: end: what a client waits for is looked at often. Idle ones wait at the server.
_IDLE_MS = {Lane.HOT: 50, Lane.COLD: 100}
#: Messages at once in one process: single misses on hot, batches (each `item_concurrency` items) on cold: two
#: that run, so that the end of one is filled by the next, and one that is being recorded.
_THREADS = {Lane.HOT: 32, Lane.COLD: 3}
#: Messages fetched beyond those at once. What one process has fetched, another cannot take, so as few as
#: keep its threads busy between two looks: dramatiq counts messages that run among the prefetched, and with
#: none to spare a cold process was idle for half the time (measured).
_SPARE = {Lane.HOT: 0, Lane.COLD: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSize:
    """How many processes a lane has and how many messages each works off at once; None: by the machine."""

    processes: int | None = None
    threads: int | None = None


def installation_id(settings: Settings) -> str:
    """The identity that this installation sends to origins (H11): equal wherever store and broker are equal.

    Derived from their addresses and the access key's id; no secret goes into it.
    """
    parts = (
        settings.store.endpoint,
        settings.store.access_key_id or "",
        *identity_of(settings.broker.url),
        settings.broker.namespace,
    )
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def worker_children(settings: Settings, lanes: Sequence[Lane], size: LaneSize) -> list[Child]:
    """One dramatiq master a lane with its processes, so that scans never take a waiting client's place."""
    resolved = reveal_json(settings.worker(instance=installation_id(settings)))
    return [_worker(settings, lane, size, resolved) for lane in lanes]


def worker_group(settings: Settings, lane: Lane, size: LaneSize) -> WorkerGroup:
    """Where the signs of life of a lane's processes, started by this process, are found."""
    return WorkerGroup(
        name=f"{socket.gethostname()}:{os.getpid()}:{lane}",
        lane=lane,
        processes=size.processes or max(1, (os.cpu_count() or 2) // 2),
        broker=settings.broker,
    )


def _worker(settings: Settings, lane: Lane, size: LaneSize, resolved: str) -> Child:
    group = worker_group(settings, lane, size)
    threads = size.threads or _THREADS[lane]
    return Child(
        name=f"worker {lane.value}",
        command=(
            sys.executable, "-P", "-m", "scheduler.machine.worker_master", "workers.queue.entry:broker",
            "--processes", str(group.processes),
            "--threads", str(threads),
            "--skip-logging",
            "--worker-shutdown-timeout", str(int((settings.limits.drain_s + GRACE_S / 2) * 1000)),
            # No directory of the user's before our own on the import path.
            "--path",
            "--queues", lane.value,
        ),
        env={
            **base_environment(),
            "FERRYMAN_WORKER_SETTINGS": resolved,
            "FERRYMAN_LANE": lane.value,
            "FERRYMAN_WORKER_GROUP": group.name,
            "dramatiq_queue_prefetch": str(threads + _SPARE[lane]),
            "dramatiq_worker_timeout": str(_IDLE_MS[lane]),
            "dramatiq_restart_delay": "500",
        },
        ready=group.ready,
        start_s=_WORKER_START_S,
        stage=STAGE_WORKERS,
        stop_s=settings.limits.drain_s + GRACE_S,
    )  # fmt: skip


def front_child(
    settings: Settings,
    settings_file: Path,
    *,
    number: int,
    gateway_fd: int | None,
    admin_fd: int | None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    start_s: float = 30.0,
) -> Child:
    """One front process on sockets that its parent holds, so that a restart refuses nobody."""
    arguments = ["--gateway-fd", str(gateway_fd)] if gateway_fd is not None else ["--no-gateway"]
    arguments += ["--admin-fd", str(admin_fd)] if admin_fd is not None else ["--no-admin"]
    return Child(
        name="front" if number == 0 else f"front {number + 1}",
        command=_ferryman("front", "--config", str(settings_file), *arguments),
        env=base_environment(),
        ready=ready,
        start_s=start_s,
        stage=STAGE_FRONT,
        stop_s=settings.limits.drain_s + GRACE_S,
        fds=tuple(fd for fd in (gateway_fd, admin_fd) if fd is not None),
    )


def coordinator_child(settings: Settings, settings_file: Path) -> Child:
    """The process that coordinates scans, apart from the front: comparing millions of keys takes a core."""
    return Child(
        name="scans",
        command=_ferryman("scan", "serve", "--config", str(settings_file)),
        env=base_environment(),
        stage=STAGE_FRONT,
        stop_s=settings.limits.drain_s + GRACE_S,
    )


def shard_children(settings: Settings, settings_file: Path, size: LaneSize) -> list[Child]:
    """Processes that compare ranges of scans that are cut, and do nothing else."""
    threads = ["--threads", str(size.threads)] if size.threads is not None else []
    command = _ferryman("scan", "serve", "--only-shards", *threads, "--config", str(settings_file))
    return [
        Child(
            name="worker scan" if number == 0 else f"worker scan {number + 1}",
            command=command,
            env=base_environment(),
            stage=STAGE_WORKERS,
            stop_s=settings.limits.drain_s + GRACE_S,
        )
        for number in range(size.processes or max(1, (os.cpu_count() or 2) // 2))
    ]


def consumer_child(settings: Settings, settings_file: Path) -> Child:
    """The process that follows the configured logs."""
    return Child(
        name="consume",
        command=_ferryman("consume", "--config", str(settings_file)),
        env=base_environment(),
        stage=STAGE_FRONT,
        stop_s=settings.limits.drain_s + GRACE_S,
    )


def base_environment() -> dict[str, str]:
    """Our environment for a child of ours: without settings overrides, with our way of logging."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}
    return {**kept, **log.environment(), "PYTHONUNBUFFERED": "1"}


def _ferryman(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "scheduler.cli", *arguments)
