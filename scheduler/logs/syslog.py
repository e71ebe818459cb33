"""The header that syslog puts before a log line. PURE."""

from __future__ import annotations

import re

# RFC 3164 `<190>Nov 21 03:56:35 host tag[pid]: ` (host may be missing),
# RFC 5424 `<190>1 time host app pid id - `, and what rsyslog writes to files (with or without priority).
_HEADER = re.compile(
    rb"(?:<\d{1,3}>)?(?:"
    rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:[^ :\[\]]+ )?[^ :\[\]]+(?:\[\d+\])?: ?"
    rb"|1 \S+ \S+ \S+ \S+ \S+ (?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?(?:\xef\xbb\xbf)?"
    # (an address with its port is no tag: Classic Load Balancers begin with time, name and client)
    rb"|\d{4}-\d\d-\d\dT\S+ \S+ [^ :\[\]]+(?:\[\d+\])?:(?: |(?!\d{1,5} )))"
)
_PRIORITY = re.compile(rb"<\d{1,3}>")


def strip_header(line: bytes) -> bytes:
    """The line without a syslog header; a line that has none is as it was."""
    found = _HEADER.match(line)
    if found is not None:
        return line[found.end() :]
    found = _PRIORITY.match(line)
    return line[found.end() :] if found is not None else line


def has_header(line: bytes) -> bool:
    """Whether the line starts with a syslog header."""
    return _HEADER.match(line) is not None or _PRIORITY.match(line) is not None
