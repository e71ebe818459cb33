"""What a log line says, whichever program wrote it.

Owns the record and the interface of a format. Knows no file, no bucket map and no event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scheduler.logs.formats.prefilter import Needle


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One request as the gateway logged it; the log's own escapes are undone, the URL's are not."""

    method: str
    status: int
    #: Request path without query, percent-encoded as the client sent it, unless `decoded`.
    path: bytes
    #: The log had the path decoded already (`$uri`, `%U`, object names): it must not be decoded again.
    decoded: bool = False
    #: Raw query without `?`.
    query: str = ""
    #: Unix time in seconds; 0 when the log does not say.
    at: float = 0.0
    #: Client `Host`, lower case, without port; empty when the log does not say.
    host: str = ""
    scheme: Literal["http", "https"] | None = None
    #: Set when the log names the bucket; then `path` is the key alone.
    bucket: str = ""
    referer: str = ""
    user_agent: str = ""
    #: Request id, where the log has one.
    id: str = ""


class LineFormat(Protocol):
    """One log format.

    `match` is cheap and gives what makes a line the same request as another; `record` builds the record of a
    match. Lines are without their line end. A line that is not of the format is None, never an exception.
    Files of one kind share one object: repeats are remembered by it.
    """

    def __hash__(self) -> int:
        """By identity."""

    @property
    def name(self) -> str:
        """As the operator names it."""

    def needle(self, statuses: tuple[int, ...]) -> Needle:
        """What every line with one of these statuses contains."""

    @property
    def delete_needle(self) -> bytes:
        """What every line of a DELETE contains."""

    def match(self, line: bytes) -> tuple[Hashable, Any] | None:
        """(identity of the request, handle for `record`), or None for a line of another shape."""

    def record(self, handle: Any) -> LogRecord | None:
        """The record of a match; None when its request line is none."""

    def is_comment(self, line: bytes) -> bool:
        """Whether the line is a header or a comment of the format: neither a record nor broken."""

    @property
    def heading(self) -> bytes:
        """What is in a line that names the columns of those behind it; empty where no line does."""

    def headed(self, line: bytes) -> LineFormat | None:
        """The format of what is behind such a line; None for any other line.

        Raises:
            ConfigError: no miss can be found by its columns.
        """


def parse(line_format: LineFormat, line: bytes) -> LogRecord | None:
    """The record of one line, or None."""
    found = line_format.match(line)
    return None if found is None else line_format.record(found[1])
