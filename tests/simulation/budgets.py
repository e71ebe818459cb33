"""The budget of one origin over several processes, under the same faults: `BudgetWorld`.

Owns the origin, which counts what it is asked for, and what it must never see: more requests at once than the
budget, or more requests or bytes a second, over all processes. Excused is what a process holds that was
frozen or did not reach Redis for about as long as its lease lasts, what one does that asks for the first time
while Redis is away (an eighth), and a process that starts where Redis forgot the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from unittest import mock
from uuid import UUID

from simulation.loop import PROCESS
from simulation.processes import Process
from simulation.world import World
from support.flow import Flow
from workers.errors import BudgetExhausted
from workers.origin.control.control import OriginControl
from workers.plan import Lane
from workers.settings import BudgetSettings, OriginSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST: Final = "o"
_ASKERS: Final = ("front-a", "front-b", "hot", "cold")
#: Clients of each process at once.
_CLIENTS: Final = 5
_LEASE_S: Final = 15.0
#: A process that does not renew for so long may lose its slots: a renewal comes each second, and may dawdle.
_STRAY_S: Final = _LEASE_S - 4.0
#: Longest time in seconds for which a process is frozen or cut off.
_FROZEN_MOST_S: Final = 40.0
#: Seconds after which a process has told again what it holds.
_TOLD_AGAIN_S: Final = 6.0
#: Bytes that an asker reads at a time.
_PIECE: Final = 64 << 10
_BUDGETS: Final = ((3, None, None), (6, 40.0, None), (12, None, 2e6), (None, 20.0, 4e6))
#: How often a process may hold a piece of the rate: for each lane, and one that each client has read.
_HELD: Final = (2 + _CLIENTS) * len(_ASKERS)
#: Seconds' worth that the fleet's bucket holds, and that one piece of it brings to a lane of a process.
_BURST_S, _CHUNK_S = 0.25, 0.1


@dataclass(slots=True, eq=False)
class Asked:
    """One request at the origin."""

    process: str
    #: Its process may have lost its lease while it was open.
    stray: bool = False


@dataclass(slots=True)
class OriginsBooks:
    """What the origin counts."""

    world: BudgetWorld
    open: list[Asked] = field(default_factory=list)
    most: int = 0

    def begins(self, process: str, *, alone: bool) -> Asked:
        """A request comes in; `alone`: its process has never heard of the others."""
        world = self.world
        asked = Asked(process, stray=alone or process in world.stray)
        self.open.append(asked)
        limit = world.concurrency
        counted = Counter(one.process for one in self.open if not one.stray)
        self.most = max(self.most, counted.total())
        if limit is not None and counted.total() > limit:
            world.oracle.violated(f"{dict(counted)} requests at once, the budget is {limit}")
        if not asked.stray:
            world.flows_by(world.requests, 1.0, "requests")
        return asked

    def ends(self, asked: Asked) -> None:
        """It has its end, or its asker is gone."""
        if asked in self.open:
            self.open.remove(asked)

    def gone(self, process: str) -> None:
        """The kernel of whoever was killed ends his connections."""
        self.open = [one for one in self.open if one.process != process]


class Asker(Process):
    """A process with an origin control, and clients who want objects."""

    def __init__(self, world: BudgetWorld, name: str, lanes: tuple[Lane, ...]) -> None:
        super().__init__(world, name)
        self._books, self._lanes = world, lanes
        self._control = OriginControl(
            world.settings,
            redis=self.ledger.redis,
            name=name,
            clock=world.loop.time,
            now=lambda: datetime(2027, 1, 1, tzinfo=UTC),
            lease_s=_LEASE_S,
        )
        self.tasks = [self.spawn(self._control.start())]
        self.tasks += [self.spawn(self._client()) for _ in range(_CLIENTS)]

    @property
    def has_heard(self) -> bool:
        """Whether Redis ever told it of the others."""
        known = self._control._hosts.get(HOST)
        return known is not None and known.share._reached

    async def _client(self) -> None:
        world, chance = self._books, self._books.chance
        while not world.over:
            await asyncio.sleep(chance.expovariate(1 / world.thinks_s))
            try:
                slot = await self._control.acquire(HOST, chance.choice(self._lanes), timeout_s=8.0)
            except BudgetExhausted:
                world.count("no slot")
                continue
            async with slot:
                asked = world.books.begins(self.name, alone=not self.has_heard)
                try:
                    for _ in range(chance.choice((1, 1, 3, 12))):
                        await asyncio.sleep(chance.expovariate(1 / 0.1))
                        if not asked.stray:
                            world.flows_by(world.bytes, _PIECE, "bytes")
                        await slot.pace(_PIECE)
                    if chance.random() < 0.03:
                        await asyncio.sleep(chance.uniform(5.0, 25.0))
                finally:
                    world.books.ends(asked)
            world.count("read")


class BudgetWorld(World):
    """Processes that share what an origin stands."""

    more_kinds = ("cut", "forget")

    def __init__(self, seed: int, spool: Path) -> None:
        super().__init__(seed, spool)
        chance = self.chance
        self.workers, self.fronts = {}, ()
        self.others = dict.fromkeys(_ASKERS)
        self.concurrency, requests, n_bytes = chance.choice(_BUDGETS)
        self.thinks_s = chance.choice((0.2, 1.0, 3.0))
        budget = BudgetSettings(concurrency=self.concurrency, requests_per_s=requests, bytes_per_s=n_bytes)
        self.settings = OriginSettings(budgets={HOST: budget})
        self.books = OriginsBooks(self)
        self.stray: set[str] = set()
        self._stray_until: dict[str, float] = {}
        self.over = False
        self.requests = _flow(requests, 1.0)
        self.bytes = _flow(n_bytes, float(_PIECE))
        self._redis_back_at = self._forgotten_until = 0.0

    def count(self, answer: str) -> None:
        """One client more had this."""
        self.answers[answer] = self.answers.get(answer, 0) + 1

    def flows_by(self, flow: Flow | None, amount: float, what: str) -> None:
        """The origin is asked for so much, and must not be asked for more than its budget."""
        if flow is not None and (over := flow.add(self.loop.time(), amount)):
            self.oracle.violated(f"{what}: {over:.0f} more than {flow.rate:.0f} a second")

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        number = iter(range(1, 1 << 62))
        with (
            super()._patched(),
            mock.patch("workers.origin.control.control.uuid4", lambda: UUID(int=next(number) << 80)),  # noqa: PT008 -- each another
        ):
            yield

    # ------------------------------------------------------------------ what happens
    async def _schedule(self) -> None:
        for name in self.others:
            self._boot(name)
        await (asyncio.sleep(30.0) if self.calm else self._faults())
        self.weather.lossy = 0.0
        self.weather.away.clear()
        self.say("all is mended")
        self.thinks_s = 3.0
        await asyncio.sleep(45.0)  # the longest freeze is over, and whoever waited has its share
        before = self.answers.get("read", 0)
        await asyncio.sleep(30.0)
        if self.answers.get("read", 0) == before and not self.oracle.violations:
            self.oracle.violated("nobody gets anything of the origin any more")
        self.over = True
        for process in self._processes.values():
            for task in process.tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    self.oracle.violated(f"{process.name}: {error!r}")

    def _other(self, name: str, alive: str) -> Any:
        if self.loop.time() < self._forgotten_until:  # the books say that nobody is there
            self._strays(alive, self._forgotten_until - _TOLD_AGAIN_S - self.loop.time(), after_s=0.0)
        lanes = {"hot": (Lane.HOT,), "cold": (Lane.COLD,)}.get(name, (Lane.HOT, Lane.HOT, Lane.COLD))
        return Asker(self, alive, lanes)

    def _dead(self, process: Any) -> None:
        self.books.gone(process.name)

    async def _more_faults(self, kind: str, name: str) -> None:
        chance, loop, alive = self.chance, self.loop, self._processes[name].name
        match kind:
            case "cut":
                seconds = chance.choice((1.0, 5.0, 9.0, 40.0))
                self.weather.cut.add(alive)
                loop.call_later(seconds, self.weather.cut.discard, alive)
                self._hit(alive, seconds)
            case _:
                self.redis.delete(*self.redis.names("ferryman:*"))
                self._forgotten_until = max(loop.time(), self._redis_back_at) + _TOLD_AGAIN_S
                # Who cannot tell what he holds has no lease; who asks for the first time believes that.
                for one in self._processes.values():
                    if one.name in self.weather.cut or one.name in loop.frozen or not one.has_heard:
                        self._strays(one.name, _FROZEN_MOST_S, after_s=0.0)
        self.say(f"{kind} {name}")

    def _hit(self, whom: str, seconds: float) -> None:
        if whom == "redis":
            self._redis_back_at = max(self._redis_back_at, self.loop.time() + seconds)
        elif self.loop.time() < self._forgotten_until:  # it may not have told again what it holds
            self._strays(whom, seconds, after_s=0.0)
        elif seconds > _STRAY_S:
            self._strays(whom, seconds)

    def _strays(self, process: str, seconds: float, *, after_s: float = _STRAY_S) -> None:
        """From when it may have lost its lease until it has told again what it holds."""
        loop, token = self.loop, PROCESS.set("")

        def begins() -> None:
            self.stray.add(process)
            for one in self.books.open:
                one.stray = one.stray or one.process == process

        def ends() -> None:
            if loop.time() >= self._stray_until[process]:  # else it became so once more meanwhile
                self.stray.discard(process)

        loop.call_later(after_s, begins)
        until = loop.time() + seconds + _TOLD_AGAIN_S
        self._stray_until[process] = max(until, self._stray_until.get(process, 0.0))
        loop.call_at(until, ends)
        PROCESS.reset(token)


def _flow(rate: float | None, piece: float) -> Flow | None:
    if rate is None:
        return None
    return Flow(rate, max(1.0, rate * _BURST_S) + _HELD * (max(1.0, rate * _CHUNK_S) + piece))
