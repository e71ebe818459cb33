"""aiohttp's connector with our deadlines, the guard's refusals and, where SNI is off, our own name check.

Owns what happens between "a connection is wanted" and "the request may be sent". One connector serves one
level of trust, so that a pooled connection is never used by somebody who could not have opened it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractResolver

    from workers.origin.wire.guard import Guard


class GuardedConnector(aiohttp.TCPConnector):
    """A TCP connector of one level of trust."""

    def __init__(
        self,
        guard: Guard,
        *,
        configured: bool,
        tls: ssl.SSLContext | bool,
        check_names: bool,
        resolver: AbstractResolver | None = None,
        limit: int = 0,
    ) -> None:
        super().__init__(
            limit=limit,
            ttl_dns_cache=10,
            keepalive_timeout=30,
            ssl=tls,
            socket_factory=guard.socket_factory(configured=configured),
            resolver=resolver,
        )
        self._check_names = check_names

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """Connect; a connection that is for another name is none."""
        connection = await super().connect(req, traces, timeout)
        if self._check_names and req.is_ssl():
            transport = connection.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            try:
                check_name(req.url.raw_host or "", certificate)
            except ssl.SSLError:
                connection.close()
                raise
        return connection


def check_name(host: str, certificate: Mapping[str, Any] | None) -> None:
    """Check a verified certificate's names against a host, as TLS does itself when SNI is sent (RFC 6125).

    Raises:
        ssl.SSLError: no name of the certificate is the host's.
    """
    host = host.strip("[]").rstrip(".").lower()
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        pattern = str(name).lower()
        if kind == "IP Address" and pattern == host:
            return
        if kind != "DNS":
            continue
        if pattern == host or (
            pattern.startswith("*.") and "." in host and pattern[1:] == host[host.index(".") :]
        ):
            return
    raise ssl.SSLError(1, f"the certificate is not for {host}")
