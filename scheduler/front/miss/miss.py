"""One client's request for a key that the store lacks, with the rule that answers it.

Owns the record that the files of this room hand to each other. `plan` and `item` are those of this very
request: a fill that other clients share has its own (F61).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.request import Request
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan


@dataclass(slots=True, kw_only=True)
class Miss:
    """What a miss is answered from, and where the answer goes."""

    parts: Parts
    request: Request
    answer: Answer
    target: Target
    rule: Rule
    plan: FetchPlan
    item: FetchItem

    def answered(self, what: str) -> None:
        """Count it as answered: `absent`, `refused`, `mirror_failed`, …."""
        self.parts.stats.answered(what, self.target.bucket, self.rule.name)

    def origin_served(self) -> None:
        """Count it as answered with an origin's bytes, or sent there."""
        self.parts.stats.origin_served(self.request, self.target, self.rule.name)
