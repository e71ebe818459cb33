"""Which addresses may be connected to (SEMANTICS.md B11).

Owns the judgement over a connection. Pure but for `socket_factory`, which applies it to the very address that
is connected to, after name resolution: DNS rebinding, redirects and literals all pass it. Knows no URL and no
plan: the caller says whether the host was named in the configuration. What an address is, `addresses` tells.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.origin.wire.addresses import Kind, Refusal, embedded_addresses, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workers.origin.wire.addresses import IPAddress, IPNetwork
    from workers.origin.wire.dial import Dial


#: The request that this task is making; the guard tells it what was refused.
current_dial: ContextVar[Dial | None] = ContextVar("current_dial", default=None)


@dataclass(frozen=True, slots=True)
class Guard:
    """The judgement over addresses: `allow_networks` of the configuration and our own listeners."""

    allow: tuple[IPNetwork, ...]
    #: (address, port) that this fleet listens on; `0.0.0.0` and `::` stand for every address of this machine.
    own: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, allow_networks: Iterable[str], own: Iterable[tuple[str, int]] = ()) -> Guard:
        """Build from CIDR texts and (host, port) pairs; names among them are ignored but `localhost`."""
        listeners = {("127.0.0.1" if host == "localhost" else host.strip("[]"), port) for host, port in own}
        return cls(tuple(ipaddress.ip_network(text) for text in allow_networks), frozenset(listeners))

    def refusal(
        self, address: str, port: int, *, configured: bool, is_local: Callable[[str], bool] = lambda _: False
    ) -> Refusal | None:
        """None when `address` may be connected to, else why not.

        `configured`: the host was named in the configuration file, so loopback and private addresses are
        allowed. `is_local` says whether an address belongs to this machine; asked only for listeners on every
        address.
        """
        ip = ipaddress.ip_address(address.partition("%")[0])
        plain = embedded_addresses(ip)[0]
        if self._is_own(plain, port, is_local):
            return Refusal(address=address, port=port, kind=Kind.OWN)
        if any(plain in network for network in self.allow):
            return None
        kind = kind_of(ip)
        if kind is Kind.PUBLIC or (configured and kind in {Kind.LOOPBACK, Kind.PRIVATE}):
            return None
        return Refusal(address=address, port=port, kind=kind)

    def socket_factory(self, *, configured: bool) -> Callable[[Any], socket.socket]:
        """A factory for aiohttp's connector that makes no socket for a refused address."""

        def make(info: Any) -> socket.socket:
            family, kind, protocol, _, where = info
            refused = self.refusal(where[0], where[1], configured=configured, is_local=is_local_address)
            if refused is not None:
                dial = current_dial.get()
                if dial is not None:
                    dial.refusals.append(refused)
                raise OSError(errno.EACCES, f"not allowed: {refused}")
            return socket.socket(family=family, type=kind, proto=protocol)

        return make

    def _is_own(self, address: IPAddress, port: int, is_local: Callable[[str], bool]) -> bool:
        for host, own_port in self.own:
            if own_port != port:
                continue
            if host in {"0.0.0.0", "::", ""}:
                if address.is_loopback or address.is_unspecified or is_local(str(address)):
                    return True
            elif host == str(address) or (address.is_unspecified and host in {"127.0.0.1", "::1"}):
                return True
        return False


def is_local_address(address: str) -> bool:
    """Whether the address belongs to this machine: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
