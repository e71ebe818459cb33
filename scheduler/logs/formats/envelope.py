"""A log line as text inside a JSON line: Docker's json-file, journald's export, shippers. PURE.

Owns which fields hold the line, and the format of a file of such lines. Knows no format itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from scheduler.logs.syslog import strip_header

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scheduler.logs.formats.prefilter import Needle
    from scheduler.logs.formats.record import LineFormat, LogRecord

#: What Docker, shippers and journald call the line.
FIELDS = ("message", "log", "MESSAGE")


def unpacked(line: bytes) -> bytes | None:
    """The line inside, without its syslog header; None when there is none."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    inner = next((document[name] for name in FIELDS if isinstance(document.get(name), str)), None)
    if inner is None:
        return None
    return strip_header(inner.rstrip("\r\n").encode("utf-8", "surrogatepass"))


class EnvelopeFormat:
    """Lines of one format, each in an envelope."""

    def __init__(self, inner: LineFormat) -> None:
        self.name = inner.name
        self.delete_needle = inner.delete_needle
        #: Without quotes, which JSON escapes.
        self.heading = inner.heading.strip(b'"')
        self._inner = inner

    def headed(self, line: bytes) -> EnvelopeFormat | None:
        inner = unpacked(line)
        found = None if inner is None else self._inner.headed(inner)
        return None if found is None else enveloped(found)

    def needle(self, statuses: tuple[int, ...]) -> Needle:
        """The number alone: JSON may have escaped what stands beside it."""
        return re.compile(b"|".join(b"%d" % status for status in statuses))

    def match(self, line: bytes) -> tuple[Hashable, Any] | None:
        inner = unpacked(line)
        return None if inner is None else self._inner.match(inner)

    def record(self, handle: Any) -> LogRecord | None:
        return self._inner.record(handle)

    def is_comment(self, line: bytes) -> bool:
        """Whatever else the program printed beside its access log is no broken line of it."""
        inner = unpacked(line)
        return not line.strip() if inner is None else self._inner.is_comment(inner)


@lru_cache(maxsize=64)
def enveloped(inner: LineFormat) -> EnvelopeFormat:
    """Lines of that format in envelopes: the same for every file, as repeats are remembered by format."""
    return EnvelopeFormat(inner)
