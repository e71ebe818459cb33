"""A Redirect rule: only a 3xx, nothing queued and nothing stored (SEMANTICS.md 5.3, A33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.rules.planning import location

if TYPE_CHECKING:
    from scheduler.front.miss.miss import Miss


async def serve_redirect(miss: Miss) -> None:
    """Send the client to the origin."""
    miss.answered("redirect")
    target = location(miss.plan, miss.item)
    await miss.answer.whole(miss.rule.answer.redirect_code, [(b"location", target.encode("ascii"))])
