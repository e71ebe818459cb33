"""What growth is too much: the slope of each row beside its bound.

What takes time is judged over the samples in which the machine was as fast as when the rate was found out:
80 % of what a machine did is more than all of what a slower one can.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from lasting.samples import FIXED_WORK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lasting.samples import Rows

MIB = 1 << 20
#: A machine is as fast as it was while its piece of work takes no more than this times as long.
SAME_SPEED = 1.15
#: The share of the samples that must be left for a judgement of what takes time.
ENOUGH = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """By how much a value may grow over the measured time: a share of its median, and so much of its unit."""

    unit: str
    scale: float
    share: float
    more: float
    #: Whether a slower machine has more of it, and another user of the machine, too.
    timed: bool = False


BOUNDS = {
    "memory": Bound(unit="MiB", scale=MIB, share=0.10, more=8 * MIB),
    "descriptors": Bound(unit="", scale=1, share=0.05, more=24),
    "connections": Bound(unit="", scale=1, share=0.05, more=24),
    "redis": Bound(unit="MiB", scale=MIB, share=0.10, more=4 * MIB),
    "disk": Bound(unit="MiB", scale=MIB, share=0.10, more=64 * MIB),
    "messages": Bound(unit="", scale=1, share=0.50, more=100, timed=True),
    "latency": Bound(unit="ms", scale=0.001, share=0.50, more=0.020, timed=True),
    "work": Bound(unit="ms", scale=0.001, share=0.20, more=0.000_05, timed=True),
}
#: Not ours: printed in this unit, judged by nobody.
CONTROLS = {"share": ("%", 0.01), "control": ("ms", 0.001)}


def slope(rows: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen: the median of the slopes between any two, so that a few samples out of line do not count."""
    pairs = itertools.combinations(rows, 2)
    slopes = [(b - a) / (then - now) for (now, a), (then, b) in pairs if then > now]
    return median(slopes) if slopes else 0.0


def as_fast(rows: Rows, fixed_work_s: float) -> set[float]:
    """The moments at which the machine was as fast as when its piece of work took so long."""
    return {at_s for at_s, took_s in rows[FIXED_WORK] if took_s <= SAME_SPEED * fixed_work_s}


def judge(rows: Rows, *, fixed_work_s: float, busy: bool) -> int:
    """Print every slope beside its bound; how many exceed it.

    `fixed_work_s`: what the machine's piece of work took when the rate was found out. `busy`: others use this
    machine, what takes time is shown, and not judged.
    """
    fast, exceeded = as_fast(rows, fixed_work_s), 0
    moments = _late(rows[FIXED_WORK])
    steady = sum(at_s in fast for at_s, _ in moments)
    print(f"machine as fast as when the rate was found out: {steady} of {len(moments)} samples")
    timed = not busy
    if timed and steady < ENOUGH * len(moments):
        print("what takes time is not judged: the machine was slower for most of the time: EXCEEDED")
        exceeded, timed = 1, False
    print(f"{'what':44} {'median':>12} {'slope an hour':>16} {'bound an hour':>16}")
    for name, all_of_it in sorted(rows.items()):
        late = _late(all_of_it)
        window_s = late[-1][0] - late[0][0]
        if window_s <= 0:
            continue
        if name.startswith("control"):
            unit, scale = next(known for word, known in CONTROLS.items() if word in name)
            middle = median(value for _, value in late)
            print(f"{name:44} {middle / scale:12,.2f} {slope(late) * 3600 / scale:+16,.2f} {'':16} {unit}")
            continue
        bound = next(bound for word, bound in BOUNDS.items() if word in name)
        if bound.timed and timed:
            late = [(at_s, value) for at_s, value in late if at_s in fast]
        middle = median(value for _, value in late)
        allowed = (bound.share * middle + bound.more) / window_s
        found = slope(late)
        over = found > allowed
        exceeded += over and (timed or not bound.timed)
        shown = [middle / bound.scale, found * 3600 / bound.scale, allowed * 3600 / bound.scale]
        numbers = f"{shown[0]:12,.2f} {shown[1]:+16,.2f} {shown[2]:+16,.2f}"
        print(f"{name:44} {numbers} {bound.unit:4} {'EXCEEDED' if over else 'ok'}", flush=True)
    return exceeded


def _late(rows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The last two thirds."""
    return rows[len(rows) // 3 :]
