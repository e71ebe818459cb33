"""Places of an inventory that could not be read, on the list of failures.

Owns how such a place is listed (its address in place of a key, the reason `unread_place`), when it leaves the
list (another run of the scan read it, or left it out), and how many of them somebody has waived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.scan.compare.wanted import refusal
from workers.ledger.failures import UNREAD_PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.scan.inventory.walk import Walk
    from scheduler.scan.record.state import ScanState
    from workers.ledger.failures import Waiver
    from workers.ledger.ledger import Ledger


async def list_unread(ledger: Ledger, state: ScanState, walk: Walk) -> None:
    """List what a walk could not read since it was asked last; a place that was waived stays so."""
    if walk.unread:
        places, walk.unread = walk.unread, []
        failures = [refusal(state, one.place, UNREAD_PLACE, one.reason) for one in places]
        listed = await ledger.failures.add(failures)
        walk.accepted += len(places) - listed


async def forget_read(ledger: Ledger, state: ScanState) -> None:
    """Take places off the list that earlier runs of this scan could not read and this one did not miss."""
    bucket = state.options.bucket
    old = [
        failure.key
        async for failure in ledger.failures.iterate(bucket)
        if failure.reason == UNREAD_PLACE
        and failure.scan != state.run
        and failure.scan.rpartition("-")[0] == state.name
    ]
    await ledger.failures.remove(bucket, old)


def waived_places(waivers: Iterable[Waiver], state: ScanState) -> int:
    """How many of the places that this run could not read are waived."""
    return sum(
        waiver.failure.reason == UNREAD_PLACE and waiver.failure.scan == state.run for waiver in waivers
    )
