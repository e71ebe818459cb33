"""CloudFront standard log: tab-separated, its columns named by a `#Fields:` line. PURE."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from scheduler.logs.formats.regex_format import RegexFormat
from scheduler.logs.formats.values import parse_time
from workers.errors import ConfigError

if TYPE_CHECKING:
    import re

    from scheduler.logs.formats.record import LogRecord

#: Columns of a file whose header is not there any more (a tail from the middle).
DEFAULT_FIELDS = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) "
    "cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol "
    "cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type "
    "cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte "
    "x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end"
)
_GROUPS = {
    "date": "date", "time": "clock", "cs-method": "method", "cs-uri-stem": "path", "sc-status": "status",
    "cs(Referer)": "referer", "cs(User-Agent)": "agent", "cs-uri-query": "query", "x-edge-request-id": "id",
    "x-host-header": "host", "cs-protocol": "scheme",
}  # fmt: skip


def _unescape(value: bytes) -> bytes:
    """CloudFront percent-encodes what it logs, percent signs included: once more than the URL was."""
    return unquote_to_bytes(value) if b"%" in value else value


def _refine(record: LogRecord, found: re.Match[bytes]) -> LogRecord:
    groups = found.groupdict()
    if groups.get("date") and groups.get("clock"):
        stamp = f"{groups['date'].decode('latin-1')}T{groups['clock'].decode('latin-1')}+00:00"
        return replace(record, at=parse_time(stamp))
    return record


class CloudFrontFormat(RegexFormat):
    """Standard log with given columns; lines that start with `#` are its header."""

    heading = b"#Fields:"

    def is_comment(self, line: bytes) -> bool:
        return line.startswith(b"#") or not line.strip()

    def headed(self, line: bytes) -> CloudFrontFormat | None:
        return from_fields(line[8:].decode("latin-1")) if line.startswith(self.heading) else None


@lru_cache(maxsize=64)
def from_fields(fields: str) -> CloudFrontFormat:
    """The format of a file with these columns (the text after `#Fields:`).

    Raises:
        ConfigError: no column for the status or the path, or one that is there twice.
    """
    names = fields.split()
    twice = next((name for name in _GROUPS if names.count(name) > 1), "")
    if twice:
        raise ConfigError(f"CloudFront log: #Fields names {twice} twice")
    missing = [name for name in ("cs-uri-stem", "sc-status") if name not in names]
    if missing:
        raise ConfigError(f"CloudFront log: #Fields has no {missing[0]}")
    pattern = rb"\t".join(
        rb"(?P<" + _GROUPS[name].encode() + rb">[^\t]*+)" if name in _GROUPS else rb"[^\t]*+"
        for name in names
    )
    at = names.index("sc-status")
    return CloudFrontFormat(
        "cloudfront",
        pattern + rb"(?:\t.*)?",
        before=b"\t" if at else b"",
        after=b"\t" if at + 1 < len(names) else b"",
        unescape=_unescape,
        refine=_refine,
    )


def from_head(head: bytes) -> CloudFrontFormat | None:
    """The format that the header lines of a file name, or None without such a line."""
    for line in head.split(b"\n", 8)[:8]:
        if line.startswith(b"#Fields:"):
            return from_fields(line[8:].decode("latin-1"))
    return None


STANDARD = from_fields(DEFAULT_FIELDS)
