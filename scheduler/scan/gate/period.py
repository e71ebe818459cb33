"""The quiet period as people write it: 90s, 30m, 24h, 7d. PURE."""

from __future__ import annotations

import re
from typing import Final

#: What the per-minute records (`workers.ledger.minutes`) can prove, with a day to spare.
LONGEST_QUIET_S: Final = 7 * 86_400.0
DEFAULT_QUIET: Final = "24h"
#: What it looks like.
PERIOD: Final = r"([0-9]+(?:\.[0-9]+)?)([smhd])"
_PERIOD: Final = re.compile(PERIOD)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def quiet_period_s(text: str) -> float:
    """Seconds of a period.

    Raises:
        ValueError: it is none, or longer than misses are on record for.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        msg = f"{text!r} is not a number with s, m, h or d, for example 24h"
        raise ValueError(msg)
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > LONGEST_QUIET_S:
        msg = f"{text!r} is longer than 7d: misses are on record for 8 days"
        raise ValueError(msg)
    return seconds
