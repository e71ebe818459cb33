"""What an address is: public, private, a cloud's metadata service … (SEMANTICS.md B11).

Pure. Owns the networks and the forms in which one address stands for another. Who may connect where is
`guard`'s to say.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Addresses where clouds hand out credentials, beside the link-local ones.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
#: IPv4 seen through a stateless translator (RFC 2765).
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
#: Not reachable from everywhere (IANA's registries), which Python tells only in its later versions.
_NOT_GLOBAL = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/29", "192.0.0.8/32", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "5f00::/16")
)


class Kind(StrEnum):
    """What an address is, as far as the guard cares; the first that fits."""

    OWN = "own listener"
    METADATA = "metadata"
    LINK_LOCAL = "link-local"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An address that was not connected to."""

    address: str
    port: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.address} port {self.port} is {self.kind.value}"


def embedded_addresses(address: IPAddress) -> list[IPAddress]:
    """The address itself and every IPv4 address that it stands for (mapped, 6to4, Teredo, NAT64 …)."""
    found: list[IPAddress] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            found = [address.ipv4_mapped]
        if address.sixtofour is not None:
            found.append(address.sixtofour)
        if address.teredo is not None:
            found.extend(address.teredo)
        if address in _NAT64 or address in _NAT64_LOCAL or address in _TRANSLATED:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if 1 < int(address) <= 0xFFFF_FFFF:
            found.append(ipaddress.IPv4Address(int(address)))
    return found


def kind_of(address: IPAddress) -> Kind:
    """What one address is; of several things it stands for the worst."""
    order = list(Kind)
    return min((_kind(one) for one in embedded_addresses(address)), key=order.index)


def _kind(address: IPAddress) -> Kind:
    if address in METADATA:
        return Kind.METADATA
    if address.is_link_local:
        return Kind.LINK_LOCAL
    if address.is_unspecified or address in _THIS_NETWORK:
        return Kind.UNSPECIFIED
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        return Kind.MULTICAST
    if address.is_loopback:
        return Kind.LOOPBACK
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return Kind.PRIVATE
    if not address.is_global or any(address in network for network in _NOT_GLOBAL):
        return Kind.PRIVATE
    return Kind.PUBLIC


def is_loopback(host: str) -> bool:
    """Whether a host or address means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
