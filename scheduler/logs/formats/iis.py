"""W3C extended log of IIS: columns between spaces, named by a `#Fields:` line. PURE.

Source: "W3C Extended Log File Format" (IIS). The server has decoded the path already and writes a space as
`+`, and a `+` as `+`, too: such a name, and one with a percent sign, says no longer what was asked for. It is
refused and never guessed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from scheduler.logs.formats.regex_format import RegexFormat
from scheduler.logs.formats.values import parse_time, unescape_none
from workers.errors import ConfigError

if TYPE_CHECKING:
    import re

    from scheduler.logs.formats.record import LogRecord

#: The columns of a site that nobody configured.
DEFAULT_FIELDS = (
    "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) "
    "sc-status sc-substatus sc-win32-status time-taken"
)
_COLUMNS = {
    "date": rb"(?P<date>\d{4}-\d\d-\d\d)", "time": rb"(?P<clock>\d\d:\d\d:\d\d)",
    "cs-method": rb"(?P<method>[A-Za-z]+)", "cs-uri-stem": rb"(?P<upath>[/*][^ ]*+)",
    "cs-uri-query": rb"(?P<query>[^ ]++)", "sc-status": rb"(?P<status>\d{3})",
    "cs-host": rb"(?P<host>[^ ]++)", "cs(Referer)": rb"(?P<referer>[^ ]++)",
    "cs(User-Agent)": rb"(?P<agent>[^ ]++)", "s-port": rb"\d+",
    "sc-substatus": rb"\d+", "sc-win32-status": rb"\d+",
}  # fmt: skip
#: What no other program calls its columns.
_OURS = frozenset({"sc-substatus", "sc-win32-status", "s-sitename", "s-computername", "s-port", "s-ip"})


def _refine(record: LogRecord, found: re.Match[bytes]) -> LogRecord:
    groups = found.groupdict()
    if b"+" in record.path or b"%" in record.path:
        record = replace(record, path=b"\xff" + record.path)  # not UTF-8: no key, see the module
    if groups.get("date") and groups.get("clock"):
        stamp = f"{groups['date'].decode('latin-1')}T{groups['clock'].decode('latin-1')}+00:00"
        return replace(record, at=parse_time(stamp))
    return record


class IisFormat(RegexFormat):
    """The log with given columns; lines that start with `#` are its header, also in the middle."""

    heading = b"#Fields:"

    def is_comment(self, line: bytes) -> bool:
        return line.startswith(b"#") or not line.strip()

    def headed(self, line: bytes) -> IisFormat | None:
        return from_fields(line[8:].decode("latin-1")) if line.startswith(self.heading) else None


@lru_cache(maxsize=64)
def from_fields(fields: str) -> IisFormat:
    """The format of a file with these columns (the text after `#Fields:`).

    Raises:
        ConfigError: no column for the status or the path, or one that is there twice.
    """
    names = fields.split()
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise ConfigError(f"IIS log: #Fields names {twice} twice")
    missing = [name for name in ("cs-uri-stem", "sc-status") if name not in names]
    if missing:
        raise ConfigError(f"IIS log: #Fields has no {missing[0]}")
    at = names.index("sc-status")
    return IisFormat(
        "iis",
        b" ".join(_COLUMNS.get(name, rb"[^ ]++") for name in names),
        before=b" " if at else b"",
        after=b" " if at + 1 < len(names) else b"",
        unescape=unescape_none,
        refine=_refine,
    )


def from_head(head: bytes) -> IisFormat | None:
    """The format that the header lines of a file name, or None when they are not of this program."""
    for line in head.split(b"\n", 8)[:8]:
        if line.startswith(b"#Fields:"):
            fields = line[8:].decode("latin-1")
            return from_fields(fields) if _OURS & set(fields.split()) else None
    return None


STANDARD = from_fields(DEFAULT_FIELDS)
