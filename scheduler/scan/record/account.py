"""The exact account of a run: what its record counted, and what became of the keys that it sent.

Owns that every key that was found is in one term. Must not know how either half is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.scan.record.state import Counts

if TYPE_CHECKING:
    from scheduler.scan.record.state import ScanState
    from workers.ledger.outcomes import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The exact account of a run: found = the sum of all others but `bytes`."""

    found: int = 0
    present: int = 0
    stored: int = 0
    absent: int = 0
    differs: int = 0
    excluded: int = 0
    failed: int = 0
    #: Skipped on purpose by a worker (rule withdrawn, too large, tombstone).
    skipped: int = 0
    pending: int = 0
    #: Bytes stored by this run.
    bytes: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the terms add up."""
        parts = self.present + self.stored + self.absent + self.differs + self.excluded
        return self.found == parts + self.failed + self.skipped + self.pending


async def account(state: ScanState, outcomes: Outcomes) -> dict[str, Account]:
    """The account of every group of a run, and of all together under `""`."""
    moved = await outcomes.totals(state.run)
    rows: dict[str, Account] = {}
    for group in sorted({*state.groups, *moved}):
        seen = state.groups.get(group, Counts())
        row = moved.get(group, {})
        placed = sum(number for what, number in row.items() if what != "bytes")
        rows[group] = Account(
            found=seen.found,
            present=seen.present + row.get("already_present", 0),
            stored=row.get("stored", 0),
            absent=row.get("absent_at_origin", 0),
            differs=seen.differs + row.get("differs", 0),
            excluded=seen.excluded,
            failed=seen.refused + row.get("failed", 0),
            skipped=row.get("skipped", 0),
            # Counted, but its batch is not open yet: the coordinator does that next, also after a crash.
            pending=row.get("pending", 0) + max(0, seen.sent - placed),
            bytes=row.get("bytes", 0),
        )
    names = [name for name in Account.__dataclass_fields__ if name != "balanced"]
    rows[""] = Account(**{name: sum(getattr(row, name) for row in rows.values()) for name in names})
    return rows
