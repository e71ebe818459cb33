"""Host names and origin URLs as rules write them: one spelling, and which of them are refused. PURE.

Owns F21, F26 and the literal part of B11 (`unsafe_origin`). Resolves nothing: what a name points to is
checked when it is connected to, by the workers.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import idna

from scheduler.rules.problems import ProblemKind
from workers.origin.wire.addresses import Kind, embedded_addresses, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.rules.model import Scheme

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
#: What may stand in the path of a URL; anything else must be written `%XX`.
_URL_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*\Z")
_USER_INFO = "user info in a URL is refused; name a credential"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

#: Addresses of examples. They lead nowhere, so a document may name them; the guard refuses the connection.
_DOCUMENTATION = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class HostError(ValueError):
    """A host or URL that a rule may not name."""

    def __init__(self, message: str, *, kind: ProblemKind = ProblemKind.BAD_VALUE) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginUrl:
    """An origin given as URL."""

    scheme: Scheme
    host: str
    base_path: str


def normalise_host(text: str, scheme: str | None = None) -> str:
    """`host[:port]` in its one spelling: lower case, IDNA in ASCII, IPv6 in brackets, no default port (F21).

    The port is dropped as default only where `scheme` is known.

    Raises:
        HostError: empty, or with a scheme, path, user info, blank or an impossible name or port.
    """
    if not text:
        raise HostError("a host is needed", kind=ProblemKind.MISSING_FIELD)
    if "://" in text or any(mark in text for mark in "/?#@\\%") or any(c.isspace() for c in text):
        raise HostError(f"{text!r} is not host or host:port; no scheme, path, user or blank is allowed here")
    name, port = _split_port(text)
    host = _host_name(name)
    if port is None or (scheme is not None and _DEFAULT_PORTS.get(scheme) == f":{port}"):
        return host
    return f"{host}:{port}"


def split_origin_url(text: str) -> OriginUrl:
    """Scheme, host and base path of an origin URL such as `http://www.example.com/dir1/` (F10, F21, F26).

    Raises:
        HostError: not http or https, user info (`unsafe_origin`), query or fragment, or a bad host or path.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        if "@" in text:
            raise HostError(_USER_INFO, kind=ProblemKind.UNSAFE_ORIGIN) from None
        raise HostError(f"{text!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise HostError(f"{text!r} is not a URL that starts with http:// or https://")
    if "@" in parts.netloc:
        raise HostError(_USER_INFO, kind=ProblemKind.UNSAFE_ORIGIN)
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        if "@" in text:  # in the query, or behind a password with a mark in it: not shown
            raise HostError(_USER_INFO, kind=ProblemKind.UNSAFE_ORIGIN)
        raise HostError(f"{text!r} has a query or fragment")
    base_path = check_base_path(parts.path or "/")
    try:
        host = normalise_host(parts.netloc, parts.scheme)
    except HostError as error:
        if "@" in text:  # a password with a slash in it: half of it stands where the port should
            raise HostError(_USER_INFO, kind=ProblemKind.UNSAFE_ORIGIN) from None
        raise error from None
    return OriginUrl(scheme=cast("Scheme", parts.scheme), host=host, base_path=base_path)


def check_base_path(path: str) -> str:
    """The path itself when it can be put before a key (F26).

    Raises:
        HostError: it does not start and end with `/`, has characters a URL path cannot have, or climbs.
    """
    if not path.startswith("/") or not path.endswith("/"):
        raise HostError(f"base path {path!r} must start and end with /")
    if not _URL_PATH.match(path):
        raise HostError(f"base path {path!r} has characters that must be written %XX")
    if any(segment in {".", ".."} for segment in re.split(r"[/\\]", unquote(path))):
        raise HostError(f"base path {path!r} has a dot segment")
    return path


def split_host(host: str) -> tuple[str, int | None]:
    """Host without brackets, and port, of a normalised `host[:port]`."""
    name, port = _split_port(host)
    return name.strip("[]"), port


def literal_address(host: str) -> _Address | None:
    """The address when the host is one, IPv4 inside IPv6 unwrapped; None for a name."""
    try:
        return embedded_addresses(ipaddress.ip_address(split_host(host)[0]))[0]
    except ValueError:
        return None


def refused_network(address: _Address) -> str | None:
    """Which kind of refused network an address is in, as the guard sees it (B11); None for others."""
    if _in(address, _DOCUMENTATION):
        return None
    kind = kind_of(address)
    return None if kind is Kind.PUBLIC else kind.value


def unsafe_reason(
    host: str, *, from_file: bool, public_hosts: Iterable[str] = (), allow_networks: Iterable[str] = ()
) -> str | None:
    """Why a rule may not name this host (`unsafe_origin`), or None.

    Hosts of the configuration file may be loopback or private; everything else refused needs
    `allow_networks`.
    """
    name = split_host(host)[0]
    if any(public in {name, host} for public in map(str.lower, public_hosts)):
        return f"{host} is one of our own public names: requests would come back to us"
    address = literal_address(host)
    if address is None:
        if not from_file and (name == "localhost" or name.endswith(".localhost")):
            return f"{host} is the loopback; only the configuration file may name it"
        return None
    kind = refused_network(address)
    if kind is None or _in(address, _networks(tuple(allow_networks))):
        return None
    if from_file and kind in {"loopback", "private"}:
        return None
    return f"{host} is in a {kind} network; origin.allow_networks does not list it"


@lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def _in(address: _Address, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        name, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise HostError(f"{text!r}: an IPv6 address is written [address] or [address]:port")
        return f"{name}]", _port(text, rest[1:]) if rest else None
    if text.count(":") > 1:
        return text, None
    name, colon, port = text.partition(":")
    return name, _port(text, port) if colon else None


def _port(text: str, port: str) -> int:
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise HostError(f"{text!r}: a port is 1 to 65535")
    return int(port)


def _host_name(name: str) -> str:
    if name.startswith("[") or ":" in name:
        try:
            return f"[{ipaddress.IPv6Address(name.strip('[]'))}]"
        except ValueError as error:
            raise HostError(f"{name!r} is no IPv6 address") from error
    lowered = name.lower().removesuffix(".")
    if not lowered.isascii():
        try:
            lowered = idna.encode(lowered, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise HostError(f"{name!r}: {error}") from error
    labels = lowered.split(".")
    if _NUMBER.match(labels[-1]):
        # 127.1, 0x7f000001 and 2130706433 all mean an address to some resolvers.
        try:
            return str(ipaddress.IPv4Address(lowered))
        except ValueError as error:
            raise HostError(f"{name!r} is no IPv4 address of four decimal numbers") from error
    if len(lowered) > 253 or not all(_LABEL.match(label) for label in labels):
        raise HostError(f"{name!r} is no host name")
    return lowered
