"""What must hold of the way back: the old bucket ends equal to the store, and the last write of a key wins.

Owns what is excused: writes that Redis was made to forget, which `scan start --reverse` has to find.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from torture.checks import settle
from torture.content import BACK, N_BACK
from torture.layout import BUCKET
from torture.oracle import ABSENT
from workers.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torture.checks import Look
    from torture.system import System

KEYS: Final = tuple(f"{group}{n}" for group in BACK for n in range(N_BACK))


def judge_back(system: System, look: Look) -> None:
    """At once where Redis forgot nothing, and of all keys after a scan the other way round."""
    compare(system, look, certain=True)
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
    compare(system, look, certain=False)
    shown = system.command("back", "verify", BUCKET, "--full", timeout_s=300)
    if shown.returncode != 0:
        said = (shown.stdout + shown.stderr)[-1500:]
        system.oracle.violated(f"back verify ends with {shown.returncode}: {said}")


def compare(system: System, look: Look, *, certain: bool) -> None:
    """The two sides; `certain`: only keys of which Redis lost nothing."""
    oracle = system.oracle
    keys = [key for key in KEYS if not certain or oracle.is_known(key)]
    for said in differences(system, look, keys).values():
        oracle.violated(said)


def differences(system: System, look: Look, keys: list[str]) -> dict[str, str]:
    """Keys that the two sides have otherwise, and what to say of them."""
    oracle, ours, theirs = system.oracle, look.contents(BACK), system.bucket.contents()
    found: dict[str, str] = {}
    for key in keys:
        here, there = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        # What nobody has asked for yet is at the origin only, and so is what nobody knows to be deleted.
        if here != there and not (here == ABSENT and there in oracle.possible(key, time.monotonic())):
            story = oracle.story(key)
            found[key] = f"{key} is {here[:8]} in the store and {there[:8]} in the old bucket{story}"
    return found


def judge_claim(system: System, look: Look, claim: Callable[[], bool]) -> bool | None:
    """Whether one could go back now, as `claim` says; when it says so, both sides have to be equal.

    None where it says no, or a side cannot be read. Only keys are compared that nobody touched meanwhile.
    """
    oracle = system.oracle
    before = {key: oracle.told(key) for key in KEYS if oracle.is_settled(key)}
    if not claim():
        return None
    try:
        found = differences(system, look, list(before))
    except StoreError:
        return None  # it went down meanwhile: nothing can be compared
    found = {key: said for key, said in found.items() if oracle.told(key) == before[key]}
    wrong = [said for key, said in found.items() if oracle.is_known(key)]
    for said in wrong:
        oracle.violated(f"one could go back, they say, and {said}")
    return not wrong
