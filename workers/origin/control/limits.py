"""What an origin may be asked for at a given time: its budget with the window of the hour applied.

Pure: the local time is a parameter. Owns the reading of `BudgetSettings` into numbers; knows no
process, no fleet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from workers.windows import parse_window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from workers.settings import BudgetSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds over the whole fleet; None means unbounded."""

    concurrency: int | None = None
    requests_per_s: float | None = None
    bytes_per_s: float | None = None

    @property
    def closed(self) -> bool:
        """A 0 anywhere: nothing new may be asked now."""
        return 0 in {self.concurrency, self.requests_per_s, self.bytes_per_s}


UNBOUNDED = Limits()

_Number = TypeVar("_Number", int, float)


class Schedule:
    """The limits of one host over the week; of several budgets the strictest value of each kind holds."""

    def __init__(self, *budgets: BudgetSettings) -> None:
        self._parts = tuple(_Week(budget) for budget in budgets)

    @property
    def bounded(self) -> bool:
        """Whether there is any bound at any hour."""
        return any(part.bounded for part in self._parts)

    def at(self, local: datetime) -> Limits:
        """The limits at this local time."""
        if len(self._parts) == 1:
            return self._parts[0].at(local)
        now = [part.at(local) for part in self._parts]
        return Limits(
            concurrency=_least(limits.concurrency for limits in now),
            requests_per_s=_least(limits.requests_per_s for limits in now),
            bytes_per_s=_least(limits.bytes_per_s for limits in now),
        )


class _Week:
    """One budget over the week."""

    def __init__(self, settings: BudgetSettings) -> None:
        self._base = Limits(
            concurrency=settings.concurrency,
            requests_per_s=settings.requests_per_s,
            bytes_per_s=settings.bytes_per_s,
        )
        self._windows = tuple(
            (
                parse_window(window.when),
                Limits(
                    concurrency=_either(window.concurrency, settings.concurrency),
                    requests_per_s=_either(window.requests_per_s, settings.requests_per_s),
                    bytes_per_s=_either(window.bytes_per_s, settings.bytes_per_s),
                ),
            )
            for window in settings.windows
        )

    @property
    def bounded(self) -> bool:
        """Whether there is any bound at any hour."""
        return any(limits != UNBOUNDED for limits in (self._base, *(limits for _, limits in self._windows)))

    def at(self, local: datetime) -> Limits:
        """The limits at this local time: those of the first window that contains it, else the base."""
        for window, limits in self._windows:
            if window.contains(local):
                return limits
        return self._base


def cold_part(slots: int, hot_share: float) -> int:
    """How many of `slots` cold work may hold; the rest is kept for hot, at least one of two or more."""
    if slots < 2 or hot_share <= 0:
        return slots
    return slots - min(slots - 1, max(1, math.floor(slots * hot_share)))


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)


def _either(first: _Number | None, second: _Number | None) -> _Number | None:
    return first if first is not None else second
