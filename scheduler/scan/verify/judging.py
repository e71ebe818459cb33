"""What the counts of a verification prove, and what of it is no fault of the move. PURE but for the account.

Owns the sentences that say why less is proved than it seems, and who is to blame for keys that are nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scheduler.scan.limits import ENOUGH_SETTLED, empty_is_meant, nearly_all_absent
from scheduler.scan.record.account import Account, account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState
    from scheduler.scan.verify.report import VerifyReport


class Judged(NamedTuple):
    """What a verification knows beside its report."""

    #: Keys that are neither in the store nor at the origin; those in the store alone.
    gone: int
    left_behind: int
    #: Why nothing more was asked of the origin; empty else.
    stopped: str
    #: The share of absent keys that is allowed.
    max_absent: float


def unproved(services: Services, scan: ScanState, report: VerifyReport, found: Judged) -> Iterator[str]:
    """Why the report proves less than it seems to."""
    share = found.max_absent
    if report.checked == 0 and not empty_is_meant(services.settings, scan):
        yield (
            "no key was checked: the inventory has none. If that is meant: ferryman scan start "
            f"{scan.name} --allow-empty …, or scans.{scan.name}.allow_empty: true"
        )
    if report.mode != "listing" and report.checked and not report.compared:
        yield "no object was compared byte by byte"
    how = f"more than {share:.0%} (scans.{scan.name}.max_absent; 1 allows it)"
    if found.stopped:
        yield found.stopped
    elif nearly_all_absent(found.gone, report.checked, share):
        yield f"{found.gone} of {report.checked} keys are neither in the store nor at the origin, {how}"
    looked_at = report.compared + found.left_behind
    if nearly_all_absent(found.left_behind, looked_at, share):
        yield f"{found.left_behind} of {looked_at} objects are not at the origin to be compared, {how}"


def enough(name: str, *, missing: int, checked: int, asked: int, gone: int, max_absent: float) -> str:
    """Why the origin is asked for no further key; empty: it is."""
    if not nearly_all_absent(missing, checked, max_absent):
        return ""
    if asked < ENOUGH_SETTLED or not nearly_all_absent(gone, asked, max_absent):
        return ""
    return (
        f"stopped: {missing} of {checked} keys are not in the store, and of the first {asked} the origin has "
        f"all but {asked - gone} not either, more than {max_absent:.0%} "
        f"(scans.{name}.max_absent; 1 allows it)"
    )


async def blamed(services: Services, scan: ScanState, gone: Mapping[str, int]) -> dict[str, str]:
    """Why keys that are nowhere count as missing, by group; groups in which they are harmless are left out.

    The account knows how many keys of each group were absent, not which. Where more are gone than it has
    absent ones, some of them it calls stored: then none of the group's passes for harmless.
    """
    rows = await account(scan, services.ledger.outcomes)
    found: dict[str, str] = {}
    for group, number in gone.items():
        row = rows.get(group, Account())
        known = row.absent + row.skipped + row.pending
        if number > known and scan.options.limit is None:
            found[group] = (
                f"nor at the origin any more; of {group} {number} are gone, {known} were never moved"
            )
    return found
