"""Where a bucket and a key live on the wire.

Owns the endpoint's URL and the exact encoding of keys and queries. Pure: knows no client library but `yarl`,
which is given strings that are already encoded and must not touch them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from yarl import URL

from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Everything under this prefix is Ferryman's own: never served, never listed, never migrated.
OWN_PREFIX = ".ferryman/"
#: Below which a store is tried out.
PROBE_PREFIX = f"{OWN_PREFIX}probe/"

#: Keys that are their own path; most are.
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")


def encode_key(key: str) -> str:
    """A key as a URL path: UTF-8, unreserved characters and `/` as they are, the rest `%XX` in upper case."""
    return key if _PLAIN.fullmatch(key) else quote(key, safe="/-._~")


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query in the canonical order and spelling of SigV4, so that what is signed is what is sent."""
    # By name, then by value; not by the joined text, in which `=` would come after the digits.
    encoded = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in pairs)
    return "&".join([f"{name}={value}" for name, value in encoded])


class Target(NamedTuple):
    """One resource of the store: what goes into the request line and the Host header."""

    scheme: str
    host: str
    raw_path: str
    query: str

    @property
    def path_qs(self) -> str:
        """Path and query as they are sent."""
        return f"{self.raw_path}?{self.query}" if self.query else self.raw_path

    @property
    def absolute(self) -> str:
        """The whole URL."""
        return f"{self.scheme}://{self.host}{self.path_qs}"

    @property
    def url(self) -> URL:
        """The same for a client that takes URLs."""
        return URL(self.absolute, encoded=True)


class Endpoint:
    """The S3 endpoint, path style (`/bucket/key`) or virtual-hosted (`bucket.host/key`)."""

    __slots__ = ("_authority", "_base", "_scheme", "_virtual")

    def __init__(self, url: str, *, addressing: Literal["path", "virtual"] = "path") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"store.endpoint: {url!r} is not an http(s) URL")
        if parts.query or parts.fragment or parts.username:
            raise ConfigError(f"store.endpoint: {url!r} must not carry a query, fragment or user")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        default = 443 if parts.scheme == "https" else 80
        self._authority = host if parts.port in {None, default} else f"{host}:{parts.port}"
        self._scheme = parts.scheme
        self._base = parts.path.rstrip("/")
        self._virtual = addressing == "virtual"

    @property
    def secure(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self._scheme == "https"

    def target(self, bucket: str, key: str = "", query: str = "") -> Target:
        """Where to send a request about a bucket (empty key) or an object."""
        if self._virtual and bucket:
            host = f"{bucket}.{self._authority}"
            raw_path = f"{self._base}/{encode_key(key)}"
        else:
            host = self._authority
            raw_path = f"{self._base}/{bucket}/{encode_key(key)}" if key else f"{self._base}/{bucket}"
        return Target(self._scheme, host, raw_path, query)
