"""Ports of the loopback address for servers that this machine starts, remembered in the data directory.

They lie outside of those that the kernel gives to outgoing connections: a port of that range which was free
when it was chosen may be the near end of a connection when the server listens a second later.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.config.data_dir import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable

PORTS_FILE = "ports.json"
_LOOPBACK = "127.0.0.1"
#: Where looking begins: above ports that people give by hand, below those that Linux and Kubernetes hand out.
_LOWEST, _HIGHEST = 15_000, 29_999
#: Linux: first and last port of outgoing connections.
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def choose_ports(data_dir: Path, names: Iterable[str]) -> dict[str, int]:
    """A free loopback port for each name: last time's where it is still free. Remembered at once.

    Raises:
        ConfigError: what is remembered cannot be read, or the data directory cannot be written.
    """
    path = data_dir / PORTS_FILE
    remembered = read_json(path)
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        wanted = list(names)
        for name in wanted:
            old = remembered.get(name)
            if isinstance(old, int) and 0 < old < 65536 and _held(old, held):
                chosen[name] = old
        missing = [name for name in wanted if name not in chosen]
        chosen |= zip(missing, _free(len(missing), held), strict=True)
    if {**remembered, **chosen} != remembered:
        write_private(path, json.dumps({**remembered, **chosen}, indent=2) + "\n")
    return chosen


def free_ports(count: int) -> list[int]:
    """That many different ports that were free a moment ago; another process may still be quicker."""
    with contextlib.ExitStack() as held:
        return _free(count, held)


def _free(count: int, held: contextlib.ExitStack) -> list[int]:
    """Ports that stay bound until `held` is left, so that no two are equal."""
    lowest, highest = _range()
    # One stretch from a random place: who chooses at the same time seldom chooses the same.
    begin = random.randrange(lowest, highest + 1)
    around = (
        lowest + (begin - lowest + step) % (highest + 1 - lowest) for step in range(highest + 1 - lowest)
    )
    found: list[int] = []
    while len(found) < count:
        port = _held(next(around, 0), held)  # all are taken: whatever the kernel has
        if port:
            found.append(port)
    return found


def _held(port: int, held: contextlib.ExitStack) -> int:
    """Bind it until `held` is left: its number, or 0 where somebody has it. Port 0 is any."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((_LOOPBACK, port))
    except OSError:
        sock.close()
        if port == 0:
            raise
        return 0
    held.enter_context(sock)
    return int(sock.getsockname()[1])


def _range() -> tuple[int, int]:
    try:
        first, last = map(int, _OUTGOING.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # another system: its range begins at 32,768 or above
        return _LOWEST, _HIGHEST
    if first > _HIGHEST or last < _LOWEST:
        return _LOWEST, _HIGHEST
    below, above = first - 1024, 65_535 - last
    return (1024, first - 1) if below >= above else (last + 1, 65_535)
