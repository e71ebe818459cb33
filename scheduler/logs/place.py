"""Of which bucket a log's record is, and where in its path the key begins. PURE.

Owns the host map, buckets in the path, and the prefix that a site's paths have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.logs.formats.record import LogRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one log has bucket and key."""

    #: The bucket of every line; None: by host, else by the first path segment.
    bucket: str | None = None
    #: Host without port to bucket; `*.example.com` covers names below it.
    hosts: Mapping[str, str] = field(default_factory=dict)
    #: Buckets whose name may be the first path segment.
    path_style: frozenset[str] = frozenset()
    #: Cut from the raw path; a path without it is no miss of ours.
    strip_prefix: bytes = b""

    @classmethod
    def of(
        cls,
        buckets: Mapping[str, Sequence[str]],
        *,
        bucket: str | None = None,
        hosts: Mapping[str, str] | None = None,
        strip_prefix: str = "",
    ) -> Self:
        """From what an operator writes; `buckets` are the configured ones with their host names."""
        table = {name.lower(): of for of, names in buckets.items() for name in names}
        table.update({name.lower(): of for name, of in (hosts or {}).items()})
        return cls(
            bucket=bucket, hosts=table, path_style=frozenset(buckets), strip_prefix=strip_prefix.encode()
        )

    @property
    def tells(self) -> bool:
        """Whether there is anything that could tell a bucket."""
        return bool(self.bucket is not None or self.hosts or self.path_style)

    def find(self, record: LogRecord) -> tuple[str | None, bytes | None]:
        """(bucket, raw path of the key); None for no bucket of ours, or a path outside the prefix."""
        path = record.path
        if record.bucket:
            # The store's own log: `path` is the key already.
            if self.bucket is not None:
                return self.bucket, path
            bucket = self.hosts.get(record.bucket, record.bucket)
            return (bucket if not self.path_style or bucket in self.path_style else None), path
        if self.strip_prefix:
            if not path.startswith(self.strip_prefix):
                return self.bucket or "", None
            path = path[len(self.strip_prefix) :]
        if self.bucket is not None:
            return self.bucket, path
        if record.host and self.hosts:
            found = self._by_host(record.host)
            if found is not None:
                return found, path
        first, slash, rest = path.removeprefix(b"/").partition(b"/")
        name = first.decode("latin-1")
        if slash and name in self.path_style:
            return name, rest
        only = next(iter(self.path_style)) if len(self.path_style) == 1 and not self.hosts else None
        return only, path

    def _by_host(self, host: str) -> str | None:
        found = self.hosts.get(host)
        while found is None and "." in host:
            host = host.partition(".")[2]
            found = self.hosts.get(f"*.{host}")
        return found
