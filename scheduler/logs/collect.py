"""From a block of whole lines to the events of its misses, each request once.

Owns the hot path of log reading: prefilter, match, deduplicate, decode, in this order, so that what cannot be
a miss is never parsed and what was just seen is never decoded. Does no I/O; the clock is a parameter.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scheduler.logs.formats.prefilter import candidates, count_lines, lines_with, literal_needle
from scheduler.logs.syslog import has_header, strip_header
from scheduler.misses.event import MissEvent
from scheduler.misses.refusals import Deletion, Ignored, Refused
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scheduler.logs.filters import MissFilter
    from scheduler.logs.formats.record import LineFormat

#: Lines of a block whose shape is checked although they cannot be misses: a wrong format shows itself.
_SAMPLED_LINES = 4
#: Broken lines that are kept, and how much of each.
KEPT_SAMPLES = 20
_SAMPLE_BYTES = 300
_QUERY = re.compile(rb"\?[^\s\"]*")
#: Requests remembered as just dispatched.
_RECENT_SIZE = 200_000


class Recent:
    """Requests dispatched within the last `window_s` seconds, in bounded memory.

    A repeat within it would meet its own claim or the negative cache (L14: 10 s) anyway; here it costs no
    round trip. Two generations: an entry lives between half and the whole of the window.
    """

    def __init__(self, window_s: float = 4.0) -> None:
        self._window_s = window_s
        self._half_s = window_s / 2
        self._young: set[Hashable] = set()
        self._old: set[Hashable] = set()
        self._turned = float("-inf")

    def emptied(self) -> Recent:
        """One that has seen nothing."""
        return Recent(self._window_s)

    def turn(self, now: float) -> None:
        """Let entries age; call once a block."""
        if now - self._turned < self._half_s and len(self._young) < _RECENT_SIZE:
            return
        stale = now - self._turned >= 2 * self._half_s
        self._old = set() if stale else self._young
        self._young = set()
        self._turned = now

    def seen(self, identity: Hashable) -> bool:
        """Whether the request was dispatched within the window."""
        return identity in self._young or identity in self._old

    def add(self, identity: Hashable) -> None:
        """The request is being dispatched."""
        self._young.add(identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A line that could not be read."""

    reason: str
    line: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts since the start of one input."""

    lines: int = 0
    bytes: int = 0
    #: Lines that are misses, repeats included.
    misses: int = 0
    #: Misses that repeat one of the same block or of the last seconds.
    repeats: int = 0
    deletions: int = 0
    #: Candidates and sampled lines that are not of the format.
    broken: int = 0
    #: By reason: misses that were refused, and candidates that were none.
    refused: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    #: Lines whose shape was checked.
    checked: int = 0
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))
    #: Unix seconds of the youngest miss.
    newest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What one block gave; `misses` counts repeats and refused ones as well."""

    events: list[MissEvent]
    deletions: list[Deletion]
    lines: int
    misses: int
    repeats: int
    refused: int


class Collector:
    """Reads the blocks of one input in one format."""

    def __init__(
        self, line_format: LineFormat, miss_filter: MissFilter, *, tally: Tally, recent: Recent
    ) -> None:
        self._filter = miss_filter
        self._tally = tally
        self._recent = recent
        #: The columns that lines have now name no miss: nothing is read until others are named.
        self._unreadable = False
        self._take_up(line_format)

    def _take_up(self, line_format: LineFormat) -> None:
        self.format = line_format
        self._needle = line_format.needle(tuple(sorted(self._filter.statuses)))
        self._delete_needle = literal_needle(line_format.delete_needle)
        self._heading_needle = literal_needle(line_format.heading)

    def read(self, block: bytes, *, now: float) -> Harvest:
        """The distinct misses and deletions of whole lines, in order; `now`: monotonic clock, seconds."""
        self._recent.turn(now)
        heading = self.format.heading
        headings = list(lines_with(block, heading, self._heading_needle)) if heading else []
        if not headings:
            return self._read(block)
        parts: list[Harvest] = []
        at = 0
        for line in headings:
            whole = line + b"\n"
            to = 0 if not parts and block.startswith(whole) else block.index(b"\n" + whole, at) + 1
            if to > at:
                parts.append(self._read(block[at:to]))
            self.follow(line)
            at = to
        parts.append(self._read(block[at:]))
        return Harvest(
            events=[one for part in parts for one in part.events],
            deletions=[one for part in parts for one in part.deletions],
            lines=sum(part.lines for part in parts),
            misses=sum(part.misses for part in parts),
            repeats=sum(part.repeats for part in parts),
            refused=sum(part.refused for part in parts),
        )

    def follow(self, line: bytes) -> bool:
        """Read what comes by the columns that `line` names; whether it is a line that names columns.

        By columns in which no miss can be found nothing is read: every line is counted as broken until other
        columns are named, because a line that is read by the wrong ones may look like one of other requests.
        """
        bare = strip_header(line)
        try:
            found = self.format.headed(bare)
        except ConfigError as error:
            self._unreadable = True
            self._tally.samples.append(Sample(reason=str(error), line=_show(bare)))
            return True
        if found is None:
            return False
        self._unreadable = False
        if found is not self.format:
            self._take_up(found)
            self._recent = self._recent.emptied()  # a request is another by other columns
        return True

    def _read(self, block: bytes) -> Harvest:
        """Lines of one kind of columns."""
        tally = self._tally
        recent = self._recent
        if self._unreadable:
            return self._pass_over(block)
        match = self.format.match
        record_of = self.format.record
        judge = self._filter.judge
        headed = has_header(block[:512])
        events: list[MissEvent] = []
        deletions: list[Deletion] = []
        misses = repeats = refused = 0
        broken: set[bytes] = set()
        for line in candidates(block, self._needle):
            found = match(strip_header(line) if headed else line) or self._behind_header(line)
            if found is None:
                broken.add(line)
                self._broken(line)
                continue
            if recent.seen(found[0]):
                repeats += 1
                continue
            record = record_of(found[1])
            if record is None:
                tally.ignored["no_request"] += 1
                continue
            taken = judge(record)
            if isinstance(taken, MissEvent):
                recent.add(found[0])
                misses += 1
                events.append(taken)
                tally.newest = max(tally.newest, taken.at)
            elif isinstance(taken, Refused):
                misses += 1
                refused += 1
                tally.refused[taken.reason] += 1
                tally.samples.append(Sample(reason=taken.reason, line=_show(line)))
            elif isinstance(taken, Ignored):
                tally.ignored[taken.reason] += 1
        if self._filter.deletes:
            for line in lines_with(block, self.format.delete_needle, self._delete_needle):
                found = match(strip_header(line) if headed else line) or self._behind_header(line)
                record = None if found is None else record_of(found[1])
                if record is None or record.method != "DELETE":
                    continue
                gone = judge(record)
                if isinstance(gone, Deletion):
                    deletions.append(gone)
        self._check(block, counted=broken)
        lines = count_lines(block)
        misses += repeats
        tally.lines += lines
        tally.bytes += len(block)
        tally.misses += misses
        tally.repeats += repeats
        tally.deletions += len(deletions)
        return Harvest(
            events=events,
            deletions=deletions,
            lines=lines,
            misses=misses,
            repeats=repeats,
            refused=refused,
        )

    def _pass_over(self, block: bytes) -> Harvest:
        lines = block.split(b"\n")[:-1]
        self._tally.lines += len(lines)
        self._tally.bytes += len(block)
        self._tally.broken += sum(not self.format.is_comment(strip_header(line)) for line in lines)
        return Harvest(events=[], deletions=[], lines=len(lines), misses=0, repeats=0, refused=0)

    def _behind_header(self, line: bytes) -> tuple[Hashable, Any] | None:
        """A line that is not of the format as it stands may have a syslog header that the first has not."""
        return self.format.match(strip_header(line)) if has_header(line) else None

    def _check(self, block: bytes, *, counted: set[bytes]) -> None:
        """Look at the first lines of a block, misses or not; `counted` are bad ones that were counted."""
        for line in block[: 64 * 1024].split(b"\n", _SAMPLED_LINES)[:_SAMPLED_LINES]:
            bare = strip_header(line)
            if not bare or self.format.is_comment(bare):
                continue
            self._tally.checked += 1
            if line not in counted and self.format.match(bare) is None and self.format.match(line) is None:
                self._broken(line)

    def _broken(self, line: bytes) -> None:
        self._tally.broken += 1
        self._tally.samples.append(Sample(reason="not_of_the_format", line=_show(strip_header(line))))


def _show(line: bytes) -> str:
    """A line as a sample: samples are logged, so no query string is in them."""
    return _QUERY.sub(b"?...", line[:_SAMPLE_BYTES]).decode("utf-8", "backslashreplace")
