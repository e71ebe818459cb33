"""How far a scan is: rates and the time it will still take. PURE.

Owns the reckoning that `scan status`, the API and the page share. Rates are over the seconds that somebody
worked on the scan, so that neither a pause nor a clock that was set shows in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.scan.record.scan_index import ACTIVE

if TYPE_CHECKING:
    from scheduler.scan.record.account import Account
    from scheduler.scan.record.state import ScanState


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a scan is."""

    #: Keys that are settled, and how many there will be as far as is known.
    settled: int
    expected: int
    #: Seconds of work.
    duration_s: float
    objects_per_s: float
    bytes_per_s: float
    #: Seconds still to go; None when nobody can say.
    eta_s: float | None


def progress_of(state: ScanState, total: Account, *, keys_left: int = 0) -> Progress:
    """The progress of a scan whose account of all keys is `total`.

    `keys_left`: what is likely still to be compared, of a scan whose shards list what it reads.
    """
    # A dry run only counts: what it would fetch is not waited for.
    settled = total.found if state.options.dry_run else total.found - total.pending
    expected = max(state.read - state.duplicates, total.found)
    if state.source_listed or state.options.reverse:
        expected += keys_left
    seconds = state.active_s
    per_s = settled / seconds if seconds > 0 else 0.0
    moving = state.phase in ACTIVE and not state.paused and not state.waiting
    known = per_s > 0 and moving and (state.inventory_complete or state.source_listed)
    return Progress(
        settled=settled,
        expected=expected,
        duration_s=round(seconds, 3),
        objects_per_s=round(per_s, 1),
        bytes_per_s=round(total.bytes / seconds, 1) if seconds > 0 else 0.0,
        eta_s=round(max(expected - settled, 0) / per_s, 1) if known else None,
    )
