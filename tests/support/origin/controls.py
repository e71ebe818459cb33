"""What tests ask of the controls of several processes: who is first, wait, die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.patience import PATIENCE_S
from workers.errors import OriginUnreachable
from workers.plan import FetchItem, FetchPlan, Origin, OriginGroup

if TYPE_CHECKING:
    from workers.origin.control.control import OriginControl

A, B = "a.example", "b.example"
ITEM = FetchItem(key="k", path="k", pick=0)
PLAN = FetchPlan(
    bucket="site", rule="r", groups=(OriginGroup(primary=Origin(host=A)), OriginGroup(primary=Origin(host=B)))
)


async def until(condition, within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the state is Redis's, nobody can set an event
            await asyncio.sleep(0.02)


def first(control: OriginControl) -> str:
    return control.candidates(PLAN, ITEM)[0].host


async def kill(control: OriginControl) -> None:
    """What SIGKILL does: nothing is given back, nothing is renewed."""
    for task in control._tasks:
        task.cancel()
    await asyncio.gather(*control._tasks, return_exceptions=True)
    control._tasks.clear()
    for budget in control._hosts.values():
        budget._closed = True
        if budget._chaser is not None:
            budget._chaser.cancel()
            await asyncio.gather(budget._chaser, return_exceptions=True)
    control._hosts.clear()


def eject(control: OriginControl, host: str = A) -> None:
    """As many failures as put an origin out."""
    for _ in range(5):
        control.failed(host, OriginUnreachable("refused", origin=host))
