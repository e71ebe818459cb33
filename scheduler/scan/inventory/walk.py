"""What goes between a source that walks and whoever runs it: what to leave out, what could not be read. PURE.

Owns the record of a place that could not be read, and the question whether a folder need be looked into.
Knows no scan and no ledger; whoever lists the places empties the list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

#: What a pattern may hold whose match below a folder says nothing of a longer key.
_LOOKS_AHEAD = re.compile(r"\$|\\[bBZ]|\(\?[=!]")
#: An end of a pattern that every key below a folder matches when the folder matches what stands before it.
_ANYTHING = re.compile(r"(?<!\\)\.[*+]\??\$?$")


class Unread(NamedTuple):
    """A place of an inventory that could not be read: what is in it is not known."""

    place: str
    reason: str


@dataclass(slots=True)
class Walk:
    """One pass of a source over folders, pages or files."""

    #: Only keys that begin so are wanted.
    prefix: str = ""
    #: Regular expressions of keys that are not wanted.
    exclude: tuple[str, ...] = ()
    #: Pages (folders, sitemaps) that were read.
    pages: int = 0
    #: Links that lead out of what is walked.
    outside: int = 0
    #: Folders that filters left out unread.
    left_out: int = 0
    #: Places that could not be read, and that somebody has accepted before.
    accepted: int = 0
    unread: list[Unread] = field(default_factory=list)
    _missed: set[str] = field(default_factory=set)

    @property
    def missed(self) -> int:
        """Places that could not be read so far, and that nobody has accepted."""
        return len(self._missed) - self.accepted

    def miss(self, place: str, reason: str) -> None:
        """Say that a place could not be read; twice is once."""
        if place not in self._missed:
            self._missed.add(place)
            self.unread.append(Unread(place, reason))

    def skips(self, folder: str) -> bool:
        """Whether no key below `folder` (its keys' beginning, with the slash) can be wanted; counts it."""
        aside = not (folder.startswith(self.prefix) or self.prefix.startswith(folder))
        skipped = aside or any(covers(pattern, folder) for pattern in self.exclude)
        self.left_out += skipped
        return skipped


def covers(pattern: str, folder: str) -> bool:
    """Whether a regular expression surely matches every key below a folder."""
    before = _ANYTHING.sub("", pattern)
    if _LOOKS_AHEAD.search(before):
        return False
    try:
        return re.search(before, folder) is not None
    except re.error:
        return False  # what was cut off belonged to something: it is asked of each key


def shown(name: str) -> str:
    """A name for messages and records: bytes that are not UTF-8 as `%XX`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "".join(
            f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in name
        )
    return name
