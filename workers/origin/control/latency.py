"""First-byte times of an origin, kept so cheaply that every answer can be counted.

Pure. Owns a histogram with fixed, logarithmic bounds, its merging over processes, and percentiles read
from it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Upper bounds in seconds: 1 ms to about 80 s, each a quarter above the one before; the last bucket is open.
BOUNDS_S: tuple[float, ...] = tuple(round(0.001 * 1.25**step, 6) for step in range(51))


class Latency:
    """Counts of first-byte times over the present and the last period; `turn` begins a new one."""

    __slots__ = ("_last", "_now")

    def __init__(self) -> None:
        self._now = [0] * (len(BOUNDS_S) + 1)
        self._last = [0] * (len(BOUNDS_S) + 1)

    def add(self, first_byte_s: float) -> None:
        """Count one answer."""
        self._now[bisect_left(BOUNDS_S, first_byte_s)] += 1

    def turn(self) -> None:
        """Drop the last period; the present one becomes the last."""
        self._last = self._now
        self._now = [0] * (len(BOUNDS_S) + 1)

    def counts(self) -> list[int]:
        """Both periods together, by bucket of `BOUNDS_S`."""
        return [now + last for now, last in zip(self._now, self._last, strict=True)]


def merged(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of several processes' counts; those of another shape (another version) are left out."""
    total = [0] * (len(BOUNDS_S) + 1)
    for counts in histograms:
        if len(counts) == len(total):
            total = [left + right for left, right in zip(total, counts, strict=True)]
    return total


def percentile_s(counts: Sequence[int], share: float) -> float | None:
    """Seconds within which `share` (0..1) of all answers came, to the bucket; None for no answers."""
    total = sum(counts)
    if not total:
        return None
    rank = max(1.0, share * total)
    seen = 0
    for bound_s, count in zip((*BOUNDS_S, BOUNDS_S[-1]), counts, strict=True):
        seen += count
        if seen >= rank:
            return bound_s
    return BOUNDS_S[-1]


def sparse_percentile_s(counts: Mapping[str, int], share: float) -> float | None:
    """The same of counts by number of the bucket, as they are kept in JSON."""
    dense = [0] * (len(BOUNDS_S) + 1)
    for bucket, number in counts.items():
        dense[min(int(bucket), len(BOUNDS_S))] += number
    return percentile_s(dense, share)
