"""What must hold of the way back: the old bucket ends equal to the store, and the last write of a key wins.

Owns what is excused: writes that Redis was made to forget, which `scan start --reverse` has to find.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torture.checks import settle
from torture.content import BACK, N_BACK
from torture.layout import BUCKET
from torture.oracle import ABSENT

if TYPE_CHECKING:
    from torture.checks import Look
    from torture.system import System


def judge_back(system: System, look: Look) -> None:
    """At once where Redis forgot nothing, and of all keys after a scan the other way round."""
    _compare(system, look, certain=True)
    if system.oracle.violations:
        return
    done = system.command(
        "scan", "start", "reverse", "--bucket", BUCKET, "--reverse", "--wait", timeout_s=300
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-1500:]
        system.oracle.violated(f"the scan the other way round ends with {done.returncode}: {said}")
        return
    settle(system, look)
    _compare(system, look, certain=False)
    shown = system.command("back", "verify", BUCKET, "--full", timeout_s=300)
    if shown.returncode != 0:
        said = (shown.stdout + shown.stderr)[-1500:]
        system.oracle.violated(f"back verify ends with {shown.returncode}: {said}")


def _compare(system: System, look: Look, *, certain: bool) -> None:
    """The two sides; `certain`: only keys of which Redis lost nothing."""
    oracle, ours, theirs = system.oracle, look.contents(), system.bucket.contents()
    for key in (f"{group}{n}" for group in BACK for n in range(N_BACK)):
        if certain and not oracle.is_certain(oracle.told(key)):
            continue
        here, there = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        if here == there:
            continue
        # What nobody has asked for yet is at the origin only, and so is what nobody knows to be deleted.
        if here == ABSENT and there in oracle.possible(key, time.monotonic()):
            continue
        oracle.violated(
            f"{key} is {here[:8]} in the store and {there[:8]} in the old bucket{oracle.story(key)}"
        )
