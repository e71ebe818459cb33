"""Which bucket does a request mean, and what of its path is the object? Pure.

Owns *Bucket lookup* of SEMANTICS.md section 9, for rule documents and objects alike. Does not know which
buckets exist, and decodes nothing but the bucket's own path segment.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What follows the bucket in the vendors' own host names.
_VENDOR_MARKS = (".cos.", ".oss-")
#: Distinct Host headers remembered; clients choose them, so there is a bound.
_REMEMBERED_HOSTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """The bucket that a request names; empty when it names none."""

    bucket: str
    #: The raw path behind the bucket, percent-encoded as sent, with its leading `/`.
    object_path: bytes
    #: Whether the bucket was the first path segment.
    path_style: bool

    @property
    def is_bucket(self) -> bool:
        """Whether the bucket itself is asked for, and no object in it."""
        return self.object_path in {b"", b"/"}

    @property
    def resource(self) -> str:
        """As error documents name it: `/bucket/key`, or `/bucket`; also for a path that names no object."""
        name = unquote_to_bytes(self.object_path).decode("utf-8", "replace").lstrip("/")
        return f"/{self.bucket}/{name}" if name else f"/{self.bucket}"


class NamesHosts(Protocol):
    """A bucket's settings, as far as they name hosts."""

    @property
    def hosts(self) -> tuple[str, ...]: ...


class BucketLookup:
    """Finds the bucket in Host or path.

    `domains`: below them the first label or labels are the bucket. `hosts`: full names that mean one bucket.
    """

    def __init__(self, *, domains: Iterable[str] = (), hosts: Mapping[str, str] | None = None) -> None:
        self._domains = tuple("." + domain.strip(".").lower() for domain in domains)
        self._hosts = {_bare(name): bucket for name, bucket in (hosts or {}).items()}
        self._by_host = lru_cache(maxsize=_REMEMBERED_HOSTS)(self._named_by_host)

    @classmethod
    def of(cls, domains: Iterable[str], buckets: Mapping[str, NamesHosts]) -> BucketLookup:
        """A lookup for `gateway.domains` and the `hosts` of every configured bucket."""
        return cls(
            domains=domains,
            hosts={host: name for name, bucket in buckets.items() for host in bucket.hosts},
        )

    def find(self, host: str, raw_path: bytes) -> BucketAddress:
        """Bucket and rest of a request by its `Host` header (empty when absent) and its raw path."""
        bucket = self._by_host(host)
        if bucket is not None:
            return BucketAddress(bucket=bucket, object_path=raw_path or b"/", path_style=False)
        segment, _, rest = raw_path.removeprefix(b"/").partition(b"/")
        name = unquote_to_bytes(segment) if b"%" in segment else segment
        return BucketAddress(bucket=name.decode("latin-1"), object_path=b"/" + rest, path_style=True)

    def _named_by_host(self, header: str) -> str | None:
        host = _bare(header)
        if host in self._hosts:
            return self._hosts[host]
        if not host or host == "localhost" or _is_address(host):
            return None
        for domain in self._domains:
            if host.endswith(domain) and len(host) > len(domain):
                return host[: -len(domain)]
        for mark in _VENDOR_MARKS:
            bucket, found, _ = host.partition(mark)
            if found and bucket:
                return bucket
        return None


def host_name(header: str) -> str:
    """A `Host` header without port and trailing dot, in lower case; IPv6 without its brackets."""
    return _bare(header)


@lru_cache(maxsize=_REMEMBERED_HOSTS)
def _bare(header: str) -> str:
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
