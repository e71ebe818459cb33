"""Which records are misses. PURE.

Owns statuses, methods, patterns and bots; of which bucket and key one is, tells its `place`. Source: issue
"Miss events", item 3; SEMANTICS.md section 2 (GET triggers, HEAD by option) and S15 (deletions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scheduler.logs.place import Place
from scheduler.misses.event import MissEvent
from scheduler.misses.keys import key_of_path
from scheduler.misses.refusals import Deletion, Ignored, Refused, Taken
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.logs.formats.record import LogRecord

#: User agents that call themselves automatic.
_BOT = re.compile(r"bot\b|bot/|crawl|spider|slurp|mediapartners|facebookexternalhit|preview", re.IGNORECASE)
#: Answers to a DELETE after which the object is gone.
DELETED = frozenset({200, 202, 204})
METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MissFilter:
    """What counts as a miss in one log."""

    place: Place = field(default_factory=Place)
    statuses: frozenset[int] = frozenset({404})
    methods: frozenset[str] = frozenset({"GET"})
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
        bucket, path = self.place.find(record)
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


def make_filter(
    place: Place,
    *,
    statuses: Sequence[int] = (404,),
    methods: Sequence[str] = ("GET",),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    bots: bool = True,
    deletes: bool = True,
) -> MissFilter:
    """A filter from what an operator writes.

    Raises:
        ConfigError: a method other than GET and HEAD, a pattern that is no regular expression, or nothing
            that could tell the bucket.
    """
    upper = frozenset(method.upper() for method in methods)
    if not upper or upper - METHODS:
        raise ConfigError(f"methods {', '.join(sorted(upper))!r}: only GET and HEAD cause a pull")
    if not place.tells:
        raise ConfigError("no bucket: name one with --bucket, or configure `buckets`, or a host map")
    return MissFilter(
        place=place,
        statuses=frozenset(statuses),
        methods=upper,
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
