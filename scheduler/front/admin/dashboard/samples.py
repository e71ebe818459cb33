"""The samples that charts are drawn of, kept, so that a reading costs the last few and not a month of them.

Owns what is kept and when all of it is read anew. A sample that is over does not change; the last ones may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workers.ledger.history import KEPT_HOURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.ledger.history import History, Sample

#: Seconds after which everything is read anew: somebody may have written older ones.
WHOLE_EVERY_S: Final = 600.0
#: Minutes that are kept here: what a picture shows, and a little more.
KEPT_MIN: Final = 24 * 60 + 10
#: Minutes and hours back that are read each time.
_LATE: Final = 5


class Samples:
    """The minutes of the last day and the hours of the last month."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._whole_at = float("-inf")
        self._minutes: dict[int, Sample] = {}
        self._hours: dict[int, Sample] = {}
        self._told: tuple[tuple[Sample, ...], tuple[Sample, ...]] = ((), ())

    async def read(self, now: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """Minutes and hours, oldest first; the same tuples as before when nothing is new.

        Raises:
            RedisError: the ledger does not answer; what was known stays known.
        """
        since_minute, since_hour = int(now) - KEPT_MIN * 60, int(now) - KEPT_HOURS * 3600
        if not 0 <= now - self._whole_at < WHOLE_EVERY_S:
            of_minutes = await self._history.minutes(since=since_minute)
            of_hours = await self._history.hours(since=since_hour)
            self._minutes, self._hours = _by_time(of_minutes), _by_time(of_hours)
            self._whole_at = now
        else:
            minute, hour = int(now) // 60, int(now) // 3600
            # As many as passed since the last reading, if that was long ago.
            behind = minute - max(self._minutes, default=minute * 60) // 60
            late = min(max(_LATE, behind + 1), KEPT_MIN)
            of_minutes, of_hours = await self._history.some(
                minutes=range(minute - late, minute + 1), hours=range(hour - 1, hour + 1)
            )
            self._minutes |= _by_time(of_minutes)
            self._hours |= _by_time(of_hours)
            for known, since in ((self._minutes, since_minute), (self._hours, since_hour)):
                for at in [at for at in known if at < since]:
                    del known[at]
        fresh = _in_order(self._minutes), _in_order(self._hours)
        if fresh != self._told:
            self._told = fresh
        return self._told


def _by_time(samples: Iterable[Sample]) -> dict[int, Sample]:
    return {one.at: one for one in samples}


def _in_order(samples: dict[int, Sample]) -> tuple[Sample, ...]:
    return tuple(samples[at] for at in sorted(samples))
