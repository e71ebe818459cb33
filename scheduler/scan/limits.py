"""When a scan stops by itself: too many keys failed, or nearly nothing is at the origin. PURE.

Owns the arithmetic of both and the words for the operator; the coordinator raises them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.errors import FerrymanError

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from scheduler.scan.record.account import Account
    from scheduler.scan.record.state import ScanState

#: Fewer absent keys say nothing.
MIN_ABSENT = 100
#: Settled keys after which a scan that is under way is judged; one that has ended is judged anyway.
ENOUGH_SETTLED = 1_000


class StoppedByLimit(FerrymanError):
    """A limit was reached; what is still queued waits."""


class TooManyFailures(StoppedByLimit):
    """As many keys have failed as the operator allowed."""


class NearlyAllAbsent(StoppedByLimit):
    """More keys are absent than a migration has: the origin, the rule or the inventory is another one."""


class MessagesLost(FerrymanError):
    """Keys are pending, and no message of the queue has them."""

    def __init__(self, name: str, pending: int) -> None:
        super().__init__(
            f"{pending} keys are pending, and no message of the queue has them: Redis lost some of what it "
            f"was told. Begin anew, what was moved is not moved again: ferryman scan start {name} … --wait"
        )


def empty_is_meant(settings: Settings, state: ScanState) -> bool:
    """Whether somebody said that the inventory may be empty: with the scan, or in the settings since."""
    known = settings.scans.get(state.name)
    return state.options.allow_empty or (known is not None and known.allow_empty)


def max_absent_of(settings: Settings, state: ScanState) -> float:
    """The share of absent keys that somebody allowed: with the scan, or in the settings since."""
    known = settings.scans.get(state.name)
    return max(state.options.max_absent, known.max_absent if known is not None else 0.0)


def nearly_all_absent(absent: int, of: int, max_absent: float) -> bool:
    """Whether so many of these are absent that somebody has to say that it is meant."""
    return absent >= MIN_ABSENT and absent > max_absent * of


def heed_failures(state: ScanState, total: Account) -> None:
    """Compare the account with `stop_after_failures`.

    Raises:
        TooManyFailures: as many as the operator allowed.
    """
    limit, forgiven = state.options.stop_after_failures, state.forgiven
    if limit is None or total.failed - forgiven < limit:
        return
    beyond = f" beyond the {forgiven} that had failed before" if forgiven else ""
    name, bucket = state.name, state.options.bucket
    msg = (
        f"{total.failed} keys failed, the limit is {limit}{beyond}. "
        f"Why: ferryman failures list --bucket {bucket}. "
        f"To go on: ferryman failures retry --bucket {bucket}, then ferryman scan resume {name} "
        f"(as many may fail again). To give up: ferryman scan cancel {name}"
    )
    raise TooManyFailures(msg)


def heed_absent(state: ScanState, total: Account, *, ended: bool) -> None:
    """Compare the account with `max_absent`; `ended`: all is compared and settled.

    Raises:
        NearlyAllAbsent: more than that share of the keys is at no origin.
    """
    settled = total.found - total.pending - total.excluded
    if not ended and settled < ENOUGH_SETTLED:
        return
    limit = state.options.max_absent
    if not nearly_all_absent(total.absent, settled, limit):
        return
    msg = (
        f"{total.absent} of {settled} keys are absent at the origin, more than {limit:.0%} (max_absent): "
        f"are origin, rule and inventory those that belong together? Try one key: ferryman explain "
        f"{state.options.bucket} KEY. When that is mended: ferryman scan start {state.name} …, which begins "
        f"anew; if it is meant, with --max-absent 1, or scans.{state.name}.max_absent: 1"
    )
    raise NearlyAllAbsent(msg)
