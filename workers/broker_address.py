"""Where Redis or Valkey is, as `broker.url` says it. PURE.

Owns the forms of that URL::

    redis://[user[:password]@]host[:port][/database][?option=…]     rediss:// with TLS
    unix:///path/of/socket[?db=database]
    redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database][?option=…]

User and password are those of the servers that hold the data. The last form, `rediss+sentinel://` with TLS to
servers and sentinels alike, names the sentinels, which say where the server is that is written to. Knows no
client library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

#: The schemes that name sentinels, and the one by which the servers are then reached.
_SENTINEL: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SCHEMES: Final = ("redis", "rediss", "unix", *_SENTINEL)
_SENTINEL_PORT: Final = 26379
_SERVER_PORT: Final = 6379
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@,/]+)(?::([0-9]{1,5}))?")
_PATH_TO_MASTER: Final = re.compile(r"/([^/]+)(?:/([0-9]*))?")
_ESCAPES: Final = "in a user name or password, / is written %2F, # %23, ? %3F, @ %40, : %3A, [ %5B and % %25"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinels:
    """Who says where the server is."""

    #: (host, port) of each, as configured.
    hosts: tuple[tuple[str, int], ...]
    #: The name under which they watch it.
    master: str


def check_broker_url(url: str) -> None:
    """Refuse a URL that another reader would take apart differently; nothing of it is shown but its scheme.

    Raises:
        ValueError: says what is wrong.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = f" {scheme!r}…" if separator and scheme.replace("+", "").isalnum() else ""
        msg = (
            f"url{shown} must be `embedded`, or start with redis://, rediss://, redis+sentinel://, "
            "rediss+sentinel:// or unix://"
        )
        raise ValueError(msg)
    if scheme in _SENTINEL:
        _check_sentinels(url)
        return
    try:
        parts = _split(url)
        whole = bool(parts.path if scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    path = parts.path if whole else ""
    if scheme == "unix":
        split = whole and bool(parts.netloc) and "@" not in parts.netloc
    else:
        split = whole and ("@" in path or "@" in parts.query.partition("=")[0])
    if not whole or split or parts.fragment:
        msg = f"url (not shown) has no host and port where they belong: {_ESCAPES}"
        raise ValueError(msg)
    if scheme != "unix" and not re.fullmatch(r"/?[0-9]*", path):
        msg = "url: behind the host stands the number of the queue's database, as in redis://host:6379/0"
        raise ValueError(msg)


def _check_sentinels(url: str) -> None:
    try:
        parts = _split(url)
        hosts = [_HOST_AND_PORT.fullmatch(one) for one in _netloc_hosts(parts.netloc)]
    except ValueError:
        hosts = [None]
    whole = all(one is not None and 0 < int(one[2] or _SENTINEL_PORT) < 65536 for one in hosts)
    if not whole or parts.fragment or "@" in parts.path:
        msg = f"url (not shown) has no sentinels where they belong, as host:port,host:port: {_ESCAPES}"
        raise ValueError(msg)
    if not _PATH_TO_MASTER.fullmatch(parts.path):
        msg = (
            "url: behind the sentinels stands the name of the master that they watch, then the number of the "
            "queue's database, as in redis+sentinel://host:26379,host:26379/mymaster/0"
        )
        raise ValueError(msg)


def _split(url: str) -> SplitResult:
    """Its parts; a list of hosts, which some Pythons take for a bad IPv6 address, is kept as it is.

    Raises:
        ValueError: a host in brackets is none.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SENTINEL:
        return urlsplit(url)
    hosts = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}://sentinels{rest[len(hosts) :]}")._replace(netloc=hosts)


def _netloc_hosts(netloc: str) -> list[str]:
    return netloc.rpartition("@")[2].split(",")


def sentinels_of(url: str) -> Sentinels | None:
    """Whom to ask for the server; None where the URL names it itself. The URL is a checked one."""
    parts = _split(url)
    if parts.scheme not in _SENTINEL:
        return None
    hosts = []
    for one in _netloc_hosts(parts.netloc):
        found = _HOST_AND_PORT.fullmatch(one)
        assert found is not None
        hosts.append((found[1].strip("[]"), int(found[2] or _SENTINEL_PORT)))
    path = _PATH_TO_MASTER.fullmatch(parts.path)
    assert path is not None
    return Sentinels(hosts=tuple(hosts), master=unquote(path[1]))


def server_url(url: str, database: int | None = None) -> str:
    """The URL by which a client library reaches one server; behind sentinels its host is a placeholder.

    `database`: another one than the URL's own.
    """
    parts = _split(url)
    if parts.scheme in _SENTINEL:
        user, at, _ = parts.netloc.rpartition("@")
        number = database_of(url) if database is None else database
        return urlunsplit(
            (_SENTINEL[parts.scheme], f"{user}{at}master.invalid", f"/{number}", parts.query, "")
        )
    if database is None:
        return url
    if parts.scheme == "unix":
        kept = [pair for pair in parts.query.split("&") if pair and not pair.startswith("db=")]
        return f"unix://{parts.netloc}{parts.path}?{'&'.join([*kept, f'db={database}'])}"
    return urlunsplit(parts._replace(path=f"/{database}"))


def database_of(url: str) -> int:
    """The number of the queue's database."""
    parts = _split(url)
    if parts.scheme in _SENTINEL:
        path = _PATH_TO_MASTER.fullmatch(parts.path)
        return int(path[2] or 0) if path is not None else 0
    if parts.scheme == "unix":
        numbers = re.findall(r"(?:^|&)db=([0-9]+)", parts.query)
        return int(numbers[-1]) if numbers else 0
    return int(parts.path.strip("/") or 0)


def place_of(url: str) -> str:
    """Where it is, for people: no user, no password."""
    parts = _split(url)
    if (sentinels := sentinels_of(url)) is not None:
        return f"{sentinels.master} of sentinels {','.join(_netloc_hosts(parts.netloc))}"
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or _SERVER_PORT}"


def identity_of(url: str) -> tuple[str, ...]:
    """The same for two processes that use the same one, whatever their credentials."""
    parts = _split(url)
    if (sentinels := sentinels_of(url)) is not None:
        # A process may be told of fewer sentinels than another; the name is what they share.
        return sentinels.master, "", f"/{database_of(url)}"
    return parts.hostname or "", str(parts.port or ""), parts.path
