"""How far the origins of a bucket are behind what clients wrote, and what that means for going back.

Owns the record and the sentence. Reads the ledger and the rules in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.config.quantity import duration
from scheduler.rules.write_back import routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.in_force.repository import RulesRepository
    from workers.ledger.back import Back


@dataclass(frozen=True, slots=True, kw_only=True)
class BackStatus:
    """One bucket whose rules write back, or did when something was written."""

    bucket: str
    #: `write_back` of its rules, by name; rules that do not write back are not here.
    rules: dict[str, str]
    #: Keys whose last write the origin may lack; of these, listed failures.
    pending: int
    failed: int
    #: Age in seconds of the oldest write that the origin lacks; 0 without one.
    lag_s: float

    @property
    def could_go_back(self) -> bool:
        """Whether the origin has every write that was noted."""
        return bool(self.rules) and self.pending == 0


async def collect_back(back: Back, rules: RulesRepository, buckets: Sequence[str]) -> tuple[BackStatus, ...]:
    """Every bucket of these whose rules write back, or of which something is pending.

    Raises redis-py's errors untranslated.
    """
    found = []
    noted = set(await back.buckets())
    for bucket in buckets:
        ruleset = rules.snapshot(bucket)
        modes: dict[str, str] = {
            route.rule: route.mode
            for route in (routes(ruleset) if ruleset is not None else ())
            if route.mode != "off"
        }
        if not modes and bucket not in noted:
            continue
        state = await back.state(bucket)
        found.append(
            BackStatus(
                bucket=bucket, rules=modes, pending=state.pending, failed=state.failed, lag_s=state.lag_s
            )
        )
    return tuple(found)


def sentence(status: BackStatus) -> str:
    """In one line: whether one could go back now, and what would be missing."""
    of = f"{status.bucket}: "
    if not status.rules:
        left = f"{_keys(status.pending)} noted before may be missing at the origin"
        return f"{of}no: no rule writes back, and {left}"
    if status.could_go_back:
        return f"{of}yes: the origin has every write that passed the gateway since write_back is on"
    parts = [f"{_keys(status.pending)} may be missing at the origin"]
    if status.lag_s:
        parts.append(f"the oldest write is {duration(status.lag_s)} old")
    if status.failed:
        parts.append(f"{status.failed} of them failed (ferryman failures list --bucket {status.bucket})")
    return f"{of}not now: {', '.join(parts)}"


def _keys(n: int) -> str:
    return f"{n:,} key" if n == 1 else f"{n:,} keys"
