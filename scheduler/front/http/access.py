"""May this client have this object, and who is the client? Pure.

Owns the three rules by which the gateway lends its store credentials to nobody: only configured buckets
exist, `access: signed` wants a signature, and nothing under `.ferryman/` is ever served or listed. Also owns
whose `X-Forwarded-*` and `X-Ferryman-Status` headers are believed. Opens no socket and asks no store.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from scheduler.front.auth import AuthError, Keyring, Principal, SignedRequest, verify
from scheduler.front.http.bucket_address import host_name
from scheduler.rules.keys import is_reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scheduler.config.settings import BucketSettings

Scheme = Literal["http", "https"]

_ONLY_HOST = frozenset({b"host"})


class TrustedProxies:
    """The networks of `gateway.trusted_proxies`; `in` asks for a peer's address."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self._trusts = lru_cache(maxsize=4096)(self._is_trusted)

    def __contains__(self, address: object) -> bool:
        return bool(self._networks) and isinstance(address, str) and self._trusts(address)

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """The client as far as it can be known: what trusted proxies say, else what the connection is."""

    scheme: Scheme
    #: The client's address; empty on a Unix socket.
    address: str
    #: `Host` as the client sent it, with its port.
    host: str
    #: Whether the peer is a trusted proxy: its X-Ferryman-Status is believed (SEMANTICS.md section 2.5).
    trusted: bool

    @property
    def host_name(self) -> str:
        """`host` without port, lower case (F8)."""
        return host_name(self.host)


def client_facts(scope: Mapping[str, Any], trusted: TrustedProxies) -> ClientFacts:
    """Scheme, address and host of the client of an ASGI request (SEMANTICS.md section 3.4).

    Of `X-Forwarded-For` the last address that is no trusted proxy counts: what stands before it is hearsay.
    """
    peer = scope.get("client")
    address = str(peer[0]) if peer else ""
    scheme: Scheme = "https" if scope.get("scheme") == "https" else "http"
    if address not in trusted:
        said_host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return ClientFacts(scheme=scheme, address=address, host=said_host.decode("latin-1"), trusted=False)
    headers: dict[bytes, bytes] = {}
    forwarded_for: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            forwarded_for.append(value)
        elif name in {b"host", b"x-forwarded-proto", b"x-forwarded-host"}:
            headers.setdefault(name, value)
    host = headers.get(b"host", b"").decode("latin-1")
    if not forwarded_for and headers.keys() <= _ONLY_HOST:
        return ClientFacts(scheme=scheme, address=address, host=host, trusted=True)
    said = _last(headers.get(b"x-forwarded-proto", b"")).lower()
    if said in {"http", "https"}:
        scheme = "https" if said == "https" else "http"
    host = _last(headers.get(b"x-forwarded-host", b"")) or host
    return ClientFacts(
        scheme=scheme, address=_first_untrusted(forwarded_for, trusted, address), host=host, trusted=True
    )


def _last(value: bytes) -> str:
    """Of a list the entry that the nearest proxy added."""
    return value.rpartition(b",")[2].strip().decode("latin-1")


def _first_untrusted(lines: list[bytes], trusted: TrustedProxies, peer: str) -> str:
    found = peer
    for entry in reversed(b",".join(lines).split(b",")):
        text = host_name(entry.decode("latin-1"))
        if not text:
            continue
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return found  # `unknown`, an obfuscated name: the chain ends here
        found = text
        if text not in trusted:
            return found
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a client does not get an object: HTTP status, S3 code, message."""

    status: int
    code: str
    message: str


NO_SUCH_BUCKET = Refusal(status=404, code="NoSuchBucket", message="The specified bucket does not exist.")
NO_SUCH_KEY = Refusal(status=404, code="NoSuchKey", message="The specified key does not exist.")


def may_read(
    bucket: BucketSettings | None, key: str, request: SignedRequest, keys: Keyring, now: float
) -> Principal | Refusal | None:
    """Whether GET or HEAD of an object is allowed; `bucket` is None when it is not configured.

    Returns the signer, None for an anonymous client of a public bucket, or the refusal. A public bucket reads
    no signature at all, so that clients which always sign are served whatever keys they have.
    """
    if bucket is None:
        return NO_SUCH_BUCKET
    if bucket.access == "signed":
        try:
            principal = verify(request, keys, now)
        except AuthError as error:
            return Refusal(status=error.status, code=error.code, message=error.message)
        return NO_SUCH_KEY if is_reserved(key) else principal
    return NO_SUCH_KEY if is_reserved(key) else None
