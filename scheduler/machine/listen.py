"""Binding the addresses that the configuration names, with an error that says which setting to change."""

from __future__ import annotations

import errno
import socket

from scheduler.config.settings import split_listen
from workers.errors import ConfigError

#: Connections the kernel holds before they are accepted.
BACKLOG = 2048


def bind(section: str, listen: str) -> socket.socket:
    """A listening socket for `<section>.listen`; port 0 lets the system choose.

    Raises:
        ConfigError: the port is in use, needs privileges, or the address is not ours.
    """
    host, port = split_listen(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        msg = f"{section}.listen {listen}: {error}"
        raise ConfigError(msg) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = {
            errno.EADDRINUSE: "another process uses this port",
            errno.EACCES: "this port needs privileges",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }.get(error.errno or 0, error.strerror)
        msg = (
            f"{section}.listen {listen}: {reason}; stop it, or choose another with `{section}: {{listen: "
            f"{host}:PORT}}` in config.yaml, --{section}-listen, or FERRYMAN_{section.upper()}__LISTEN"
        )
        raise ConfigError(msg) from error
    return sock


def bound(sock: socket.socket) -> str:
    """`host:port` as bound, for a `listen` setting; IPv6 in brackets."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(sock: socket.socket) -> str:
    """`host:port` as bound; IPv6 in brackets, the wildcard as loopback, so that it can be opened."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
