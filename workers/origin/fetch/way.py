"""The way that a fetch took: who was asked, how each attempt ended, and the error that stands for all of it.

Pure. Owns the bookkeeping behind `attempts`, Absent (B5) and OriginsExhausted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workers.answers import Attempt
from workers.errors import OriginError, OriginsExhausted, OriginTimeout
from workers.origin.fetch.failover import all_say_absent

if TYPE_CHECKING:
    from workers.answers import OriginAnswer


class Way:
    """Attempts of one fetch, in order; `last` is the latest error, `answer` the latest refusal."""

    __slots__ = ("answer", "attempts", "last")

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.last: OriginError | None = None
        self.answer: OriginAnswer | None = None

    def answered(self, host: str, status: int, took_s: float) -> None:
        """A candidate gave an answer of its own: a success, a redirect to pass on, or a 404."""
        self.attempts.append(Attempt(origin=host, status=status, duration_s=took_s))

    def failed(self, host: str, error: OriginError, took_s: float) -> None:
        """A candidate gave no usable answer."""
        self.last = error
        self.attempts.append(Attempt(origin=host, status=error.status, error=error.reason, duration_s=took_s))

    def broke(self, error: OriginError) -> None:
        """The latest answer began well and ended badly."""
        self.last = error
        self.attempts[-1] = replace(self.attempts[-1], error=error.reason)

    def all_say_absent(self) -> bool:
        """Whether the client may be told 404 (B5); an answer that broke says nothing of that kind."""
        return all_say_absent(
            [None if one.error and one.status == 200 else one.status for one in self.attempts]
        )

    def exhausted(self) -> OriginsExhausted:
        """The error for a fetch that found nobody."""
        last = self.last or OriginTimeout("no candidate could be asked", phase="total")
        way = ", ".join(f"{attempt.origin} {attempt.error or attempt.status}" for attempt in self.attempts)
        return OriginsExhausted(f"{last} ({way})", attempts=self.attempts, last=last, answer=self.answer)
