"""Which origin is asked first, and which ones after it: smooth weighted round robin and candidate order.

Pure: no clock, no randomness, no I/O. Owns the state of the picks, one per (bucket, rule, epoch); knows
neither health (the caller says who is eligible) nor budgets. SEMANTICS.md section 7, B1 to B3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.plan import FetchItem, FetchPlan, Origin, OriginGroup

#: Rule versions whose state is kept; the one unused longest goes first.
MAX_STATES = 4096


class SmoothWeights:
    """Smooth weighted round robin over fixed weights (B1).

    Each pick adds every eligible weight to its running value, takes the largest (the first of equals) and
    subtracts the eligible total from it: any full cycle is exact, and picks of one index are spread out.
    """

    __slots__ = ("_current", "_total", "_weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if not weights or min(weights) < 1:
            raise ValueError(f"weights must be one or more positive integers, not {tuple(weights)!r}")
        self._weights = tuple(weights)
        self._current = [0] * len(weights)
        self._total = sum(weights)

    def __len__(self) -> int:
        return len(self._weights)

    def pick(self, eligible: Sequence[bool] | None = None) -> int:
        """The next index. `eligible` leaves some out, who keep their state; none eligible means all are."""
        current = self._current
        if len(current) == 1:
            return 0
        if eligible is not None and not all(eligible) and any(eligible):
            return self._pick_among(eligible)
        best = 0
        best_value = -self._total - 1
        for index, weight in enumerate(self._weights):
            value = current[index] + weight
            current[index] = value
            if value > best_value:
                best, best_value = index, value
        current[best] = best_value - self._total
        return best

    def _pick_among(self, eligible: Sequence[bool]) -> int:
        current, weights = self._current, self._weights
        among = [index for index, may in enumerate(eligible) if may]
        total = 0
        for index in among:
            current[index] += weights[index]
            total += weights[index]
        best = max(among, key=current.__getitem__)
        current[best] -= total
        return best


class Balancer:
    """The running picks of every rule version that this process has seen."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str, int], SmoothWeights] = {}

    def pick(self, plan: FetchPlan, eligible: Sequence[bool] | None = None) -> int:
        """Index into `plan.groups` for the next item; call it once for every item of a batch."""
        if len(plan.groups) == 1:
            return 0
        key = (plan.bucket, plan.rule, plan.epoch)
        state = self._states.get(key)
        if state is None or len(state) != len(plan.groups):
            state = self._states[key] = SmoothWeights([group.weight for group in plan.groups])
            if len(self._states) > MAX_STATES:
                del self._states[next(iter(self._states))]
        return state.pick(eligible)


def hinted(plan: FetchPlan, item: FetchItem) -> int | None:
    """The dispatcher's pick when it fits the plan, else None."""
    pick = item.pick
    return pick if pick is not None and 0 <= pick < len(plan.groups) else None


def order(plan: FetchPlan, pick: int, *, standbys_first: bool = False) -> list[Origin]:
    """Candidates of one request: the picked primary, its standbys, and where the rule allows it the others.

    B2: the other primaries follow by weight, heaviest first. B3: no host twice, at most `max_attempts`.
    `standbys_first` puts the primary behind its standbys (B10: its probe fails).
    """
    group = plan.groups[pick]
    if not group.standbys and not plan.across_groups:
        return [group.primary]
    own = [*group.standbys, group.primary] if standbys_first else [group.primary, *group.standbys]
    if plan.across_groups:
        others = [other for index, other in enumerate(plan.groups) if index != pick]
        others.sort(key=_heaviest_first)
        own.extend(other.primary for other in others)
    return distinct(own)[: plan.max_attempts]


def distinct(origins: Sequence[Origin]) -> list[Origin]:
    """`origins` without a host that stands earlier in it (B3)."""
    seen: dict[str, Origin] = {}
    for origin in origins:
        seen.setdefault(origin.host, origin)
    return list(seen.values())


def _heaviest_first(group: OriginGroup) -> int:
    return -group.weight
