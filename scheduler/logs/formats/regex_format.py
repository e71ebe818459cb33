"""A format that is one regular expression over a line's bytes.

Owns the meaning of the group names::

    request    request line            method, target (path and query), path, query
    upath      path decoded by the logger          status, time, host, scheme, id, bucket
    referer, agent                     for the dependency report

A format gives the pattern and the literals around its status; everything else is here. PURE.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scheduler.logs.formats.prefilter import Needle, status_needle
from scheduler.logs.formats.record import LogRecord
from scheduler.logs.formats.values import (
    bare_host,
    parse_time,
    scheme_of,
    split_request,
    split_target,
    status_of,
    text,
    unescape_c,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from scheduler.logs.formats.record import LineFormat

#: Groups in which two lines of the same request may differ. Every other one tells requests apart, also one of
#: a single format: what is taken for a repeat is lost, what is not costs a look.
_OF_THE_LINE = frozenset({"time", "date", "clock", "local", "id", "referer", "agent", "tail", "scheme"})


class RegexFormat:
    """See the module. `before` and `after` are the literals around the status in every line."""

    heading = b""

    def __init__(
        self,
        name: str,
        pattern: bytes,
        *,
        before: bytes,
        after: bytes,
        unescape: Callable[[bytes], bytes] = unescape_c,
        line_limit_bytes: int = 1 << 20,
        anchored: bool = True,
        delete_needle: bytes = b"DELETE",
        refine: Callable[[LogRecord, re.Match[bytes]], LogRecord | None] | None = None,
    ) -> None:
        compiled = re.compile(pattern, re.DOTALL)
        self.name = name
        self.pattern = compiled
        self.delete_needle = delete_needle
        self._before = before
        self._after = after
        self._unescape = unescape
        self._limit = line_limit_bytes
        self._match = compiled.fullmatch if anchored else compiled.search
        self._refine = refine
        have = set(compiled.groupindex)
        self._identity = tuple(group for group in compiled.groupindex if group not in _OF_THE_LINE)
        self._have = have

    def needle(self, statuses: tuple[int, ...]) -> Needle:
        return status_needle(self._before, statuses, self._after)

    def match(self, line: bytes) -> tuple[Hashable, re.Match[bytes]] | None:
        if len(line) > self._limit:
            return None
        found = self._match(line[:-1] if line.endswith(b"\r") else line)
        return None if found is None else (found.group(*self._identity), found)

    def is_comment(self, line: bytes) -> bool:
        return not line.strip()

    def headed(self, line: bytes) -> LineFormat | None:
        del line
        return None

    def record(self, handle: re.Match[bytes]) -> LogRecord | None:
        have = self._have
        unescape = self._unescape
        method = b"GET"
        target = b""
        if "request" in have and handle["request"] is not None:
            request = split_request(unescape(handle["request"]))
            if request is None:
                return None
            method, target = request
        if "method" in have:
            method = handle["method"]
        if "target" in have:
            target = unescape(handle["target"])
        path, query, host, scheme = split_target(target)
        decoded = False
        if not path and "path" in have:
            path = unescape(handle["path"])
        if not path and "upath" in have:
            path, decoded = unescape(handle["upath"]), True
        if not query and "query" in have:
            query = text(unescape(handle["query"])).removeprefix("?")
        if "host" in have and handle["host"] is not None:
            host = bare_host(text(unescape(handle["host"]))) or host
        if "scheme" in have:
            scheme = scheme_of(text(handle["scheme"])) or scheme
        status = handle["status"]
        record = LogRecord(
            method=method.decode("latin-1").upper(),
            status=status_of(status),
            path=path,
            decoded=decoded,
            query=query,
            at=parse_time(handle["time"].decode("latin-1")) if "time" in have else 0.0,
            host=host,
            scheme=scheme,
            bucket=text(handle["bucket"]) if "bucket" in have else "",
            referer=text(unescape(handle["referer"])) if "referer" in have and handle["referer"] else "",
            user_agent=text(unescape(handle["agent"])) if "agent" in have and handle["agent"] else "",
            id=text(handle["id"]) if "id" in have else "",
        )
        return record if self._refine is None else self._refine(record, handle)
