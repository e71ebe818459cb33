"""Reading a scan's source to its end into one sorted file.

Owns what is sorted out on the way: keys outside the prefix, keys that can not be asked for. Knows no bucket
listing and no queue.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

import orjson

from scheduler.dispatch.dispatcher import key_problem
from scheduler.rules.keys import RESERVED
from scheduler.scan.compare.sorting import Sorter
from scheduler.scan.inventory.entry import Columns
from scheduler.scan.inventory.walk import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scheduler.scan.compare.compare import Groups, Selection
    from scheduler.scan.compare.sorting import SortedFile
    from scheduler.scan.inventory.entry import Collation, Entry
    from scheduler.scan.record.state import ScanState

#: Longest key in characters that no encoding makes longer than a key may be.
_SURELY_SHORT = 256
#: Refused keys that are remembered to count each once.
_REMEMBERED = 100_000


def inventory_path(directory: Path, run: str) -> Path:
    """Where the sorted inventory of a run stands."""
    return directory / f"{run}.sorted"


def inventory_of(state: ScanState) -> str:
    """What a sorted inventory says that it holds: this run's source and prefix."""
    said = orjson.dumps(
        [state.options.inventory, state.options.prefix], option=orjson.OPT_SORT_KEYS, default=str
    )
    return f"{state.run} {hashlib.sha256(said).hexdigest()[:16]}"


def forget_inventories(directory: Path, name: str, *, but: str) -> None:
    """Delete what earlier runs of a scan left in the directory."""
    ours = re.compile(
        re.escape(name)
        + r"-[0-9a-f]{12}(?:\.[0-9]+)?\.(?:sorted|listing)(?:\.index)?(?:\.[0-9]+)?(?:\.part|\.sorting)?"
    )
    for path in directory.iterdir():
        if ours.fullmatch(path.name) and not path.name.startswith(but):
            path.unlink(missing_ok=True)


def _keys(entries: Sequence[Entry]) -> list[str]:
    return entries.keys if isinstance(entries, Columns) else [entry.key for entry in entries]


class Reading:
    """One pass over a source. Blocking: call it from a thread."""

    def __init__(
        self,
        path: Path,
        collation: Collation,
        *,
        of: str,
        prefix: str,
        selection: Selection,
        groups: Groups,
    ) -> None:
        self._sorter = Sorter(path, collation, of=of)
        self._prefix = prefix
        self._selection = selection
        self._groups = groups
        self._refused: set[str] = set()
        #: Entries below the prefix.
        self.read = 0
        self.duplicates = 0
        #: (group, what) -> number; what: found, refused, excluded.
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Such that the filters leave out, too.
        self.excluded: list[str] = []
        #: Keys that cannot be asked for, with the reason; whoever lists them empties the list.
        self.refused: list[tuple[str, str]] = []

    def take(self, entries: Sequence[Entry]) -> None:
        """Take some more.

        Raises:
            SortFailed: sort(1) is missing or has given up.
        """
        keys = _keys(entries)
        if self._prefix and not all(key.startswith(self._prefix) for key in keys):
            entries = [entry for entry in entries if entry.key.startswith(self._prefix)]
            keys = _keys(entries)
        self.read += len(entries)
        # One look at the block for what nearly never is; a key that is printable is free of half characters.
        every = " ".join(keys)
        if not (
            all(keys)
            and every.isprintable()
            and max(map(len, keys), default=0) <= _SURELY_SHORT
            and RESERVED not in every
        ):
            entries = [entry for entry in entries if self._may_be_asked_for(entry)]
        self._sorter.add(entries)

    def _may_be_asked_for(self, entry: Entry) -> bool:
        key = entry.key
        problem = key_problem(key)
        if problem is None:
            return True
        if key in self._refused:
            self.duplicates += 1
            return False
        if len(self._refused) < _REMEMBERED:
            self._refused.add(key)
        group = self._groups.of(key)
        self.counts[group, "found"] += 1
        if self._selection.wants(entry):
            self.counts[group, "refused"] += 1
            self.refused.append((shown(key), problem))
        else:
            self.counts[group, "excluded"] += 1
            self.excluded.append(shown(key))
        return False

    def finish(self) -> SortedFile:
        """The sorted inventory.

        Raises:
            SortFailed: the message holds what sort said.
        """
        found = self._sorter.finish()
        self.duplicates += found.duplicates
        return found

    def abort(self) -> None:
        """Leave nothing behind."""
        self._sorter.abort()
