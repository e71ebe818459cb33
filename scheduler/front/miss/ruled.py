"""An object that a request asks for, with the rule that answers for it and what it was found by. A record."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from scheduler.front.http.target import Target
    from scheduler.rules.matching import RequestFacts
    from scheduler.rules.model import Rule, RuleSet


class Ruled(NamedTuple):
    """The rule is one of the set; the facts are those of the request as it came."""

    target: Target
    ruleset: RuleSet
    rule: Rule
    facts: RequestFacts
