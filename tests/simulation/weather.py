"""What goes wrong: whether a call is slow, lost, or answered into the void, drawn by the seed.

Owns the probabilities. Servers ask it at every await of the code under test.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from simulation.loop import PROCESS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from simulation.loop import SimulatedLoop

T = TypeVar("T")
#: A server that is away refuses at once, or says nothing until the caller's patience of so many seconds ends.
_SILENCE_S = 5.0


@dataclass(slots=True)
class Weather:
    """The weather of one schedule."""

    loop: SimulatedLoop
    chance: random.Random
    #: Servers that are away.
    away: set[str] = field(default_factory=set)
    #: Processes that do not reach Redis.
    cut: set[str] = field(default_factory=set)
    #: Share of calls that are lost, and of answers.
    lossy: float = 0.0
    #: Whether some bodies of the origin last longer than leases do.
    slow_bodies: bool = True

    async def call(self, server: str, do: Callable[[], T], *, lost: Callable[[str], Exception]) -> T:
        """The server's answer, or `lost`: whether it was done the caller cannot know."""
        chance = self.chance
        if server in self.away or (self.cut and server == "redis" and PROCESS.get() in self.cut):
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0.5, _SILENCE_S))
            else:
                await asyncio.sleep(0.001)
            raise lost(f"{server} is away")
        throw = chance.random()
        slow = 10.0 if chance.random() < self.lossy else 1.0
        try:
            await asyncio.sleep(chance.expovariate(1 / 0.002) * slow * slow)
        except asyncio.CancelledError:
            if chance.random() < 0.5:  # it was sent all the same, and is done after nobody waits for it
                token = PROCESS.set("")
                self.loop.call_later(chance.uniform(0.0, 0.2), do)
                PROCESS.reset(token)
            raise
        if throw < self.lossy / 2:
            raise lost("the call was lost")
        answer = do()
        if throw < self.lossy:
            raise lost("the answer was lost")
        await asyncio.sleep(chance.expovariate(1 / 0.002) * slow)
        return answer
