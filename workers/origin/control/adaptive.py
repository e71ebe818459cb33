"""How many requests an origin stands: additive increase, multiplicative decrease.

Pure: the clock is a parameter, in seconds. One of these per host and process; many processes find their
shares of an origin as TCP flows find theirs of a link. It grows by one a success until the first distress
(slow start), then by one a round; it halves on 429, 503 and timeouts and shrinks a little when answers
get slower than the baseline, each at most once a cooldown. It only grows while it is in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = 16.0
CEILING: Final = 1024.0
#: Factor on 429, 503 and timeouts, and on latency growth.
DISTRESS_FACTOR: Final = 0.5
LATENCY_FACTOR: Final = 0.9
#: One decrease in this many seconds: the answers of one bad moment arrive together.
COOLDOWN_S: Final = 1.0
#: Latency growth: the average is above this times the baseline, and above it by this many seconds.
GROWTH: Final = 2.0
GROWTH_FLOOR_S: Final = 0.05
#: Weight of a new sample in the average, and how fast the baseline follows slower answers (share per sample).
AVERAGE_WEIGHT: Final = 0.1
BASELINE_DRIFT: Final = 0.001
#: Samples before latency is judged.
WARM_UP: Final = 20


class Adaptive:
    """The concurrency that one host stands at present; `limit` is at least 1."""

    __slots__ = (
        "_average_s",
        "_baseline_s",
        "_clock",
        "_next_decrease",
        "_samples",
        "_slow_start",
        "_value",
        "limit",
    )

    def __init__(self, clock: Callable[[], float], *, start: float = START) -> None:
        self._clock = clock
        self._value = start
        self._slow_start = True
        self._average_s = self._baseline_s = 0.0
        self._samples = 0
        self._next_decrease = 0.0
        self.limit = int(start)

    @property
    def baseline_s(self) -> float:
        """First-byte time that counts as normal, in seconds; 0 before the first answer."""
        return self._baseline_s

    def succeeded(self, first_byte_s: float, in_flight: int) -> None:
        """A good answer came after `first_byte_s` seconds while `in_flight` requests were running."""
        samples = self._samples
        if samples:
            average = self._average_s + AVERAGE_WEIGHT * (first_byte_s - self._average_s)
            baseline = self._baseline_s
            if first_byte_s < baseline:
                # Downwards in a few samples, not in one: a single lucky answer is no baseline.
                baseline += 0.25 * (first_byte_s - baseline)
            else:
                baseline += BASELINE_DRIFT * (first_byte_s - baseline)
        else:
            average = baseline = first_byte_s
        self._average_s, self._baseline_s = average, baseline
        if samples < WARM_UP:
            self._samples = samples + 1
        busy = in_flight * 2 >= self.limit
        if average > GROWTH * baseline and average - baseline > GROWTH_FLOOR_S and samples >= WARM_UP:
            if busy:
                self._decrease(LATENCY_FACTOR)
            return
        if busy and self._value < CEILING:
            self._value += 1.0 if self._slow_start else 1.0 / self._value
            self.limit = int(self._value)

    def distressed(self) -> None:
        """The origin said 429 or 503, or did not answer in time."""
        self._decrease(DISTRESS_FACTOR)

    def _decrease(self, factor: float) -> None:
        now = self._clock()
        if now < self._next_decrease:
            return
        self._next_decrease = now + COOLDOWN_S
        self._slow_start = False
        self._value = max(1.0, self._value * factor)
        self.limit = int(self._value)
