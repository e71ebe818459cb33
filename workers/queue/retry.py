"""Whether and when a failed item is tried again.

Owns the decision, as a pure function of the failure: attempts are spent on faults, never on waiting (a
throttled origin, a spent budget, somebody else's lease).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.errors import BudgetExhausted, OriginError, OriginsExhausted, OriginThrottled, StoreThrottled

if TYPE_CHECKING:
    import random

    from workers.errors import TransferError

#: Seconds before the second attempt; doubled each time, up to the cap.
BASE_S = 1.0
CAP_S = 300.0
#: Seconds between looks at a throttled side that named no time.
THROTTLED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again in `delay_s` seconds as attempt number `attempt` (from 0)."""

    delay_s: float
    attempt: int


def decide(error: TransferError, *, attempt: int, max_attempts: int, rng: random.Random) -> Retry | None:
    """The next try of an item that failed its `attempt`-th one (from 0); None: it is a listed failure now.

    Full jitter, so that a thousand items that failed together do not come back together.
    """
    cause = root_cause(error)
    if isinstance(cause, (OriginThrottled, StoreThrottled, BudgetExhausted)):
        wait = cause.retry_after_s if cause.retry_after_s is not None else THROTTLED_S
        return Retry(delay_s=min(wait, CAP_S) * rng.uniform(1.0, 1.5), attempt=attempt)
    if not cause.retryable or attempt + 1 >= max_attempts:
        return None
    return Retry(delay_s=min(BASE_S * 2**attempt, CAP_S) * rng.uniform(0.5, 1.0), attempt=attempt + 1)


def root_cause(error: TransferError) -> TransferError:
    """The failure that decides: of several candidates the last one's.

    When any candidate only asked us to wait, waiting is what helps.
    """
    if not isinstance(error, OriginsExhausted):
        return error
    last: OriginError = error.last
    return root_cause(last)
