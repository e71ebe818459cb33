"""What an origin sees a second, for the judges of its budget."""

from __future__ import annotations


class Flow:
    """Never over its rate, but for what may come at once; times in seconds of any clock that only rises."""

    def __init__(self, rate: float, at_once: float) -> None:
        self.rate = rate
        self._at_once = at_once
        self._level = self._at = 0.0

    def add(self, now: float, amount: float) -> float:
        """By how much it was too much; 0 where it was not."""
        self._level = max(0.0, self._level - (now - self._at) * self.rate) + amount
        self._at = now
        return max(0.0, self._level - self._at_once)

    def forgive(self) -> None:
        """What has come until now was nobody's fault."""
        self._level = 0.0
