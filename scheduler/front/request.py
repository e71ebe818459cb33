"""What the gateway knows about one request before it looks at any bucket.

Owns the reading of an ASGI scope: addresses and scheme as trusted proxies report them, the status that a
gateway in front has seen, headers as text. Knows no bucket, no rule and no store.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from scheduler.front.s3_error import new_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Connection(Protocol):
    """The client's connection, as far as an answer has to know it."""

    @property
    def gone(self) -> bool:
        """Whether nothing that is sent can still arrive."""

    @property
    def write_paused(self) -> bool:
        """Whether the client reads slower than it is sent to."""

    def abort(self) -> None:
        """Cut the connection with a reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as it came over the wire and through the proxies that are trusted."""

    id: str
    method: str
    #: Path as sent, without the query.
    raw_path: bytes
    #: Query as sent, without `?`.
    query: str
    #: Names lower-case, values as Latin-1 text, in order.
    headers: tuple[tuple[str, str], ...]
    #: The same by name; several values of one name joined by `, `.
    by_name: Mapping[str, str]
    #: Client `Host` without port, lower case.
    host: str
    scheme: Literal["http", "https"]
    #: Address of the client, beyond trusted proxies.
    client: str
    #: The peer is a trusted proxy.
    trusted: bool
    #: What the store answered to a trusted gateway (`X-Ferryman-Status`).
    store_status: int | None
    connection: Connection


class RequestReader:
    """Turns scopes into requests; holds the trusted networks."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._networks: tuple[IpNetwork, ...] = tuple(ipaddress.ip_network(text) for text in trusted_proxies)
        self._is_trusted = lru_cache(maxsize=4096)(self._lookup)

    def read(self, scope: Mapping[str, Any]) -> Request:
        """The request of an HTTP scope."""
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        by_name: dict[str, str] = {}
        for name, value in headers:
            by_name[name] = f"{by_name[name]}, {value}" if name in by_name else value
        peer = scope.get("client")
        client = str(peer[0]) if peer else ""
        trusted = bool(self._networks) and self._is_trusted(client)
        scheme = scope.get("scheme", "http")
        store_status = None
        if trusted:
            forwarded = by_name.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            scheme = forwarded if forwarded in {"http", "https"} else scheme
            client = self._behind(client, by_name.get("x-forwarded-for", ""))
            status = by_name.get("x-ferryman-status", "")
            store_status = int(status) if len(status) == 3 and status.isdecimal() else None
        return Request(
            id=new_request_id(),
            method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            by_name=by_name,
            host=host_name(by_name.get("host", "")),
            scheme=cast("Literal['http', 'https']", scheme),
            client=client,
            trusted=trusted,
            store_status=store_status,
            connection=scope["extensions"]["ferryman.connection"],
        )

    def _behind(self, peer: str, forwarded_for: str) -> str:
        """The first address from the right that is not one of our proxies."""
        address = peer
        for entry in reversed(forwarded_for.split(",")):
            text = entry.strip().strip('"').removeprefix("[").partition("]")[0]
            try:
                address = str(ipaddress.ip_address(text))
            except ValueError:
                break
            if not self._is_trusted(address):
                break
        return address

    def _lookup(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


def host_name(host: str) -> str:
    """A `Host` value without its port, lower case; IPv6 without brackets."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
