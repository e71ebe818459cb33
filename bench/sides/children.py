"""Servers of a benchmark in processes of their own: a front, and whatever a script gives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from scheduler.config.ports import free_ports
from scheduler.config.settings import Settings
from scheduler.front.server import serve_gateway
from scheduler.machine.startup import make_ready
from scheduler.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_SPAWN = multiprocessing.get_context("spawn")


def quiet_log() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def front_process(raw: dict[str, Any], port: int, pipe: Connection) -> None:
    quiet_log()

    async def main() -> None:
        async with open_services(Settings.model_validate(raw)) as services:
            await make_ready(services, who="bench")
            # Several processes share the port.
            sock = socket.create_server(("127.0.0.1", port), backlog=2048, reuse_port=True)
            sock.setblocking(False)
            pipe.send(os.getpid())
            await serve_gateway(services, [sock], asyncio.Event())

    uvloop.run(main())


@contextlib.contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """A process that has said its id; killed at the end."""
    mine, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    try:
        if not mine.poll(30):
            raise SystemExit(f"{target.__name__} did not start")
        yield mine.recv()
    finally:
        process.kill()
        process.join()


def free_port() -> int:
    return free_ports(1)[0]


def wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
