"""Which format a file has, from its first lines. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.logs.formats import cloudfront, envelope, gcs, iis
from scheduler.logs.formats.catalog import FORMATS
from scheduler.logs.formats.record import parse
from scheduler.logs.syslog import strip_header
from workers.errors import ConfigError

if TYPE_CHECKING:
    from scheduler.logs.formats.record import LineFormat

#: Lines that are looked at, and what share of them must be of the format.
SAMPLE_LINES = 50
_NEEDED = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """The format taken, and on what evidence."""

    format: LineFormat
    matched: int
    lines: int


def detect(head: bytes) -> Detected | None:
    """The format that most of the first lines are of, or None when none is convincing.

    A last line without its end is left out, unless it is the only one. Syslog headers are looked through.
    """
    whole, separator, rest = head.rpartition(b"\n")
    lines = [line for line in (whole if separator else rest).split(b"\n") if line.strip()][:SAMPLE_LINES]
    named = named_by(head)
    if named is not None:
        data, matched = _of_named(named, lines)
        if matched == data or matched >= _NEEDED * data:
            return Detected(format=named, matched=matched, lines=data)
    if not lines or b"\x00" in b"".join(lines):
        return None
    bare = [strip_header(line) for line in lines]
    best: Detected | None = None
    for candidate in FORMATS.values():
        matched = sum(_fits(candidate, line) for line in bare)
        if matched > (0 if best is None else best.matched):
            best = Detected(format=candidate, matched=matched, lines=len(lines))
    if best is None or best.matched < _NEEDED * best.lines:
        return _enveloped(lines)
    return best


def _of_named(named: LineFormat, lines: list[bytes]) -> tuple[int, int]:
    """(lines with data, those of them that are of the format), up to columns by which nothing can be read."""
    data = matched = 0
    for line in lines:
        if not named.is_comment(line):
            data += 1
            matched += parse(named, line) is not None
            continue
        try:
            named = named.headed(line) or named
        except ConfigError:
            break
    return data, matched


def named_by(head: bytes) -> LineFormat | None:
    """The format that header lines name; None without them, and where what is needed is not in them."""
    try:
        return iis.from_head(head) or cloudfront.from_head(head) or gcs.from_head(head)
    except ConfigError:
        return None


def _enveloped(lines: list[bytes]) -> Detected | None:
    """The format of the lines inside JSON lines, when most are."""
    inner = [line for line in map(envelope.unpacked, lines) if line is not None]
    if not inner or len(inner) < _NEEDED * len(lines) or any(line.startswith(b"{") for line in inner):
        return None
    found = detect(b"\n".join(inner) + b"\n")
    return found and Detected(
        format=envelope.enveloped(found.format), matched=found.matched, lines=len(lines)
    )


def _fits(candidate: LineFormat, line: bytes) -> bool:
    record = parse(candidate, line)
    if record is None:
        # A request that nobody could read (`"-" 400`) is logged by every format that has a request line.
        return b'"-" 4' in line and candidate.match(line) is not None
    if candidate.name == "varnish":
        return bool(record.host)
    if candidate.name == "json":
        return bool(record.path)
    return True
