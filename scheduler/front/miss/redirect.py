"""A Redirect rule: only a 3xx, nothing queued and nothing stored (SEMANTICS.md 5.3, A33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.rules.planning import location

if TYPE_CHECKING:
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.target import Target
    from scheduler.front.parts import Parts
    from scheduler.rules.model import Rule
    from workers.plan import FetchItem, FetchPlan


async def serve_redirect(
    parts: Parts, answer: Answer, target: Target, rule: Rule, plan: FetchPlan, item: FetchItem
) -> None:
    """Send the client to the origin."""
    parts.stats.answered("redirect", target.bucket, rule.name)
    await answer.whole(rule.answer.redirect_code, [(b"location", location(plan, item).encode("ascii"))])
