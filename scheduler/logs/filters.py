"""Which records are misses, and of which bucket and key. PURE.

Owns statuses, methods, the host map, the path prefix, patterns and bots. Source: issue "Miss events", item 3;
SEMANTICS.md section 2 (GET triggers, HEAD by option) and S15 (deletions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.misses.event import MissEvent
from scheduler.misses.keys import key_of_path
from scheduler.misses.refusals import Deletion, Ignored, Refused, Taken
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.logs.formats.record import LogRecord

#: User agents that call themselves automatic.
_BOT = re.compile(r"bot\b|bot/|crawl|spider|slurp|mediapartners|facebookexternalhit|preview", re.IGNORECASE)
#: Answers to a DELETE after which the object is gone.
DELETED = frozenset({200, 202, 204})
METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MissFilter:
    """What counts as a miss in one log."""

    statuses: frozenset[int] = frozenset({404})
    methods: frozenset[str] = frozenset({"GET"})
    #: The bucket of every line; None: by host, else by the first path segment.
    bucket: str | None = None
    #: Host without port to bucket; `*.example.com` covers names below it.
    hosts: Mapping[str, str] = field(default_factory=dict)
    #: Buckets whose name may be the first path segment.
    path_style: frozenset[str] = frozenset()
    #: Cut from the raw path; a path without it is no miss of ours.
    strip_prefix: bytes = b""
    #: On the key; a key must match one of `include` (where there are any) and none of `exclude`.
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()
    #: False leaves out user agents that call themselves bots.
    bots: bool = True
    #: Deletions become tombstones.
    deletes: bool = True

    def judge(self, record: LogRecord) -> Taken:
        """A miss, a deletion, neither, or a refusal with its reason."""
        deletion = record.method == "DELETE"
        if deletion:
            if not self.deletes or record.status not in DELETED:
                return Ignored(reason="method")
        elif record.method not in self.methods:
            return Ignored(reason="method")
        elif record.status not in self.statuses:
            return Ignored(reason="status")
        if not deletion and not self.bots and _BOT.search(record.user_agent) is not None:
            return Ignored(reason="bot")
        bucket, path = self._place(record)
        if bucket is None:
            return Ignored(reason="no_bucket")
        if path is None:
            return Ignored(reason="outside_prefix")
        key = key_of_path(path, decoded=record.decoded)
        if isinstance(key, Refused):
            return key
        if self.include and not any(pattern.search(key) for pattern in self.include):
            return Ignored(reason="not_included")
        if any(pattern.search(key) for pattern in self.exclude):
            return Ignored(reason="excluded")
        if deletion:
            if "uploadId=" in record.query or "tagging" in record.query.split("&"):
                return Ignored(reason="method")  # an upload or the tags were dropped, not the object
            return Deletion(bucket=bucket, key=key, at=record.at)
        return MissEvent(
            bucket=bucket,
            key=key,
            id=record.id,
            at=record.at,
            method=record.method,
            status=record.status,
            scheme=record.scheme,
            query=record.query,
            referer=record.referer,
            user_agent=record.user_agent,
            host=record.host,
        )

    def _place(self, record: LogRecord) -> tuple[str | None, bytes | None]:
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


def make_filter(
    *,
    statuses: Sequence[int] = (404,),
    methods: Sequence[str] = ("GET",),
    bucket: str | None = None,
    hosts: Mapping[str, str] | None = None,
    buckets: Mapping[str, Sequence[str]] | None = None,
    strip_prefix: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    bots: bool = True,
    deletes: bool = True,
) -> MissFilter:
    """A filter from what an operator writes; `buckets` are the configured ones with their host names.

    Raises:
        ConfigError: a method other than GET and HEAD, a pattern that is no regular expression, or nothing
            that could tell the bucket.
    """
    upper = frozenset(method.upper() for method in methods)
    if not upper or upper - METHODS:
        raise ConfigError(f"methods {', '.join(sorted(upper))!r}: only GET and HEAD cause a pull")
    table = {name.lower(): of for of, names in (buckets or {}).items() for name in names}
    table.update({name.lower(): of for name, of in (hosts or {}).items()})
    if bucket is None and not table and not buckets:
        raise ConfigError("no bucket: name one with --bucket, or configure `buckets`, or a host map")
    return MissFilter(
        statuses=frozenset(statuses),
        methods=upper,
        bucket=bucket,
        hosts=table,
        path_style=frozenset(buckets or ()),
        strip_prefix=strip_prefix.encode(),
        include=_patterns(include),
        exclude=_patterns(exclude),
        bots=bots,
        deletes=deletes,
    )


def _patterns(sources: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    out = []
    for source in sources:
        try:
            out.append(re.compile(source))
        except re.error as error:
            raise ConfigError(f"pattern {source!r}: {error}") from error
    return tuple(out)
