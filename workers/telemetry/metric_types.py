"""Counters and histograms that cost a hot path next to nothing.

Owns the adding up in memory, the delivery to prometheus_client once a second and at exit, and the bound
on label values. Knows no metric's name. Used on one event loop a process; without a loop everything is
delivered at once.
"""

from __future__ import annotations

import asyncio
import atexit
from bisect import bisect_left
from typing import Any, Final

from prometheus_client import Counter, Histogram

#: Distinct values of a label before the rest become `other`.
LABEL_VALUES: Final = 100
#: Seconds between two deliveries of what was added up.
FLUSH_S: Final = 1.0

_armed = False
_at_exit = False
_series: list[Count | Spread] = []


class Bounded:
    """Lets the first values of a label through and calls the others `other`."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) < LABEL_VALUES:
            self._seen.add(value)
            return value
        return "other"


class Count:
    """A counter; additions are held back until the next delivery."""

    __slots__ = ("_bounds", "_metric", "_pending")

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self._metric = Counter(name, help_text, labels)
        self._bounds = tuple(Bounded() for _ in labels)
        self._pending: dict[tuple[str, ...], float] = {}
        _series.append(self)

    def add(self, *labels: str, n: float = 1) -> None:
        """Count `n` more under these label values."""
        pending = self._pending
        pending[labels] = pending.get(labels, 0) + n
        if not _armed:
            _arm()

    def deliver(self) -> None:
        """Bring what was held back to prometheus_client."""
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        for labels, n in pending.items():
            _child(self._metric, self._bounds, labels).inc(n)


class _Tally:
    """One histogram's observations since the last delivery."""

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0


class Spread:
    """A histogram; observations are held back until the next delivery."""

    __slots__ = ("_bounds", "_metric", "_pending", "_upper")

    def __init__(self, name: str, help_text: str, upper: tuple[float, ...], *labels: str) -> None:
        self._metric = Histogram(name, help_text, labels, buckets=upper)
        self._upper = upper
        self._bounds = tuple(Bounded() for _ in labels)
        self._pending: dict[tuple[str, ...], _Tally] = {}
        _series.append(self)

    def observe(self, value: float, *labels: str) -> None:
        """One observation under these label values."""
        tally = self._pending.get(labels)
        if tally is None:
            tally = self._pending[labels] = _Tally(len(self._upper) + 1)
        tally.counts[bisect_left(self._upper, value)] += 1
        tally.total += value
        if not _armed:
            _arm()

    def deliver(self) -> None:
        """Bring what was held back to prometheus_client."""
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        for labels, tally in pending.items():
            child = _child(self._metric, self._bounds, labels)
            # The library has no call for many observations at once; a test holds these two names in place.
            for bucket, n in zip(child._buckets, tally.counts, strict=True):  # noqa: SLF001 -- see above
                if n:
                    bucket.inc(n)
            child._sum.inc(tally.total)  # noqa: SLF001 -- see above


def _child(metric: Any, bounds: tuple[Bounded, ...], labels: tuple[str, ...]) -> Any:
    if not labels:
        return metric
    return metric.labels(*[bound(value) for bound, value in zip(bounds, labels, strict=True)])


def _arm() -> None:
    """Deliver within a second, and at exit; at once where no loop runs."""
    global _armed, _at_exit  # noqa: PLW0603 -- one timer a process
    if not _at_exit:
        _at_exit = True
        atexit.register(flush)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        flush()
    else:
        _armed = True
        loop.call_later(FLUSH_S, flush)


def flush() -> None:
    """Deliver what was added up, of every series; the timer, the exit and `metrics.render` call it."""
    global _armed  # noqa: PLW0603 -- one timer a process
    _armed = False
    for series in _series:
        series.deliver()
