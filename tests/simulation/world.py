"""One schedule from one seed: clients, faults, then calm, and the oracle's judgement.

Owns what happens when. The oracle is the one of the random faults (`torture.oracle`), on the simulated clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import time
import traceback
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import structlog

from simulation.loop import PROCESS, NothingLeft, SimulatedLoop
from simulation.processes import BUCKET, Front, Uncounted, Worker
from simulation.redis_model import RedisModel
from simulation.servers import SimulatedOrigin, SimulatedStore
from simulation.weather import Weather
from torture.content import at_origin, body_of, must_end, written_by
from torture.oracle import ABSENT, Oracle, value_of
from workers.errors import FerrymanError
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Simulated seconds without and under faults, and how long everything may take to end after them.
QUIET_S: Final = 5.0
FAULTS_S: Final = (4.0, 6.0, 8.0, 30.0)
CALM_S: Final = 1_500.0
SHOWN: Final = 200
_EPOCH: Final = 1_800_000_000.0
_WORKERS: Final = {"hot-a": Lane.HOT, "hot-b": Lane.HOT}
_FRONTS: Final = ("front-a", "front-b")
#: What the code says when it meets a fault of its own.
_OUR_FAULTS: Final = frozenset(
    {
        "fill_crashed",
        "store_side_crashed",
        "item_failed_unexpectedly",
        "batch_failed_unexpectedly",
        "back_failed_unexpectedly",
        "scan_failed_unexpectedly",
    }
)


@dataclass(slots=True)
class Result:
    """What came of a schedule."""

    seed: int
    violations: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    steps: int = 0
    answers: dict[str, int] = field(default_factory=dict)


class World:
    """All of one schedule."""

    #: Faults beside those that every world has.
    more_kinds: tuple[str, ...] = ()
    #: What is counted where clients get on.
    shown_by = "read"
    #: How many times as long as in life idle workers wait between two looks: of schedules that are long.
    patience = 1.0

    def __init__(self, seed: int, spool: Path) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop(self.chance)
        self.weather = Weather(self.loop, self.chance)
        self.redis = RedisModel(self.loop.time)
        self.store = SimulatedStore(self.weather)
        self.origin = SimulatedOrigin(self.weather)
        self.oracle = Oracle()
        #: In every fourth schedule nothing goes wrong: then a key costs its origin one fetch.
        self.calm = seed % 4 == 0
        self.weather.slow_bodies = not self.calm
        self.events: deque[str] = deque(maxlen=SHOWN)
        self.answers: dict[str, int] = {}
        self._spool = spool
        self._generation = 0
        self._processes: dict[str, Any] = {}
        self.workers = _WORKERS
        self.fronts = _FRONTS
        #: Processes beside them, and what each does.
        self.others: dict[str, Any] = {}
        #: Seconds by which a process takes the time for another one.
        self.wrong_clock: dict[str, float] = {}
        self._keys = [f"pub/{seed % 1000 * 1000 + n}" for n in range(3)]
        self._keys += [f"race/{seed % 1000 * 1000 + n}" for n in range(4)] + ["gone/1", "bad/1"]

    def say(self, text: str) -> None:
        """For the report of a failure."""
        self.events.append(f"{self.loop.time():9.3f}  {PROCESS.get() or '-':12} {text}")

    def run(self) -> Result:
        """To its end."""
        with self._patched():
            asyncio.set_event_loop(self.loop)
            gc.disable()  # what it would clean up, and when, is not in the seed
            gc.freeze()  # what was there before is not looked through at the end
            try:
                self.loop.run_until_complete(self._schedule())
            except NothingLeft as error:
                self.oracle.violated(str(error))
            finally:
                asyncio.set_event_loop(None)
                found = Result(
                    self.seed, [*self.oracle.violations], [*self.events], self.loop.steps, self.answers
                )
                self.loop.end()
                gc.unfreeze()
                gc.enable()
        return found

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """The clock, ids and logs of everything that runs."""
        number = iter(range(1, 1 << 62))
        with (
            mock.patch.object(time, "time", self._wall_clock),
            mock.patch.object(time, "monotonic", self.loop.time),
            mock.patch.object(asyncio, "sleep", self.loop.pause),
            mock.patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(number))),  # noqa: PT008 -- each another
            mock.patch.object(os, "urandom", lambda n: next(number).to_bytes(n, "big")),
            mock.patch("workers.transfer.end_earlier", _nothing_to_end),
            mock.patch("workers.telemetry.metric_types._armed", new=True),  # its timer is one of the process
        ):
            before = structlog.get_config()
            structlog.configure(processors=[self._logged], cache_logger_on_first_use=False)
            try:
                yield
            finally:
                structlog.configure(**before)

    def _wall_clock(self) -> float:
        return _EPOCH + self.loop.time() + self.wrong_clock.get(PROCESS.get(), 0.0)

    def stats_of(self, front: Front) -> Any:
        """Who counts what a front answers."""
        del front
        return Uncounted()

    def given_by(self, front: Front) -> None:
        """A front gave a client what an origin has."""

    def _logged(self, _: Any, __: str, entry: Any) -> Any:
        event = entry.pop("event")
        self.say(f"{event} {' '.join(f'{name}={value}' for name, value in entry.items())}")
        if event in _OUR_FAULTS:
            self.oracle.violated(f"{event}: {entry}: {traceback.format_exc()}")
        raise structlog.DropEvent

    # ------------------------------------------------------------------ what happens
    async def _schedule(self) -> None:
        # Keys of the bucket were deleted long ago, and every front has heard of it.
        self.redis.zadd("ferryman:tombstoned", {BUCKET: _EPOCH * 2})
        for name in (*self.workers, *self.fronts):
            self._boot(name)
        loop = self.loop
        clients = [loop.create_task(self._client(n)) for n in range(4)]
        try:
            await (asyncio.sleep(QUIET_S) if self.calm else self._faults())
        finally:
            for client in clients:
                client.cancel()
        if not self.oracle.violations:
            await self._calm()

    def _boot(self, name: str) -> None:
        self._generation += 1
        alive = f"{name}.{self._generation}"
        lane = self.workers.get(name)
        if lane:
            self._processes[name] = Worker(self, alive, lane)
        elif name in self.fronts:
            self._processes[name] = Front(self, alive, self._spool)
        else:
            self._processes[name] = self._other(name, alive)

    def _other(self, name: str, alive: str) -> Any:
        raise AssertionError(f"nobody knows what {name}, {alive}, does")

    def _dead(self, process: Any) -> None:
        """It was killed."""

    def _hit(self, whom: str, seconds: float) -> None:
        """A process is frozen, or a server away, for so long."""

    async def _more_faults(self, kind: str, name: str) -> None:
        """What else may go wrong."""

    async def _faults(self) -> None:
        chance, weather, loop = self.chance, self.weather, self.loop
        weather.lossy = chance.choice((0.0, 0.01, 0.05))
        until = loop.time() + chance.choice(FAULTS_S)
        while loop.time() < until and not self.oracle.violations:
            await asyncio.sleep(chance.expovariate(1 / 2.5))
            kind = chance.choice(("kill", "kill", "freeze", "away", "away", "well", *self.more_kinds))
            name = chance.choice((*self.workers, *self.fronts, *self.others))
            match kind:
                case "kill":
                    self.say(f"kill {name}")
                    loop.kill(self._processes[name].name)
                    self._dead(self._processes[name])
                    self._boot(name)
                case "freeze":
                    alive, seconds = self._processes[name].name, chance.choice((0.5, 3.0, 40.0))
                    self.say(f"freeze {name} for {seconds} s")
                    loop.frozen.add(alive)
                    loop.call_later(seconds, loop.frozen.discard, alive)
                    self._hit(alive, seconds)
                case "away":
                    server, seconds = (
                        chance.choice(("redis", "redis", "store", "origin")),
                        chance.uniform(0.1, 6),
                    )
                    self.say(f"{server} is away for {seconds:.1f} s")
                    weather.away.add(server)
                    loop.call_later(seconds, weather.away.discard, server)
                    self._hit(server, seconds)
                case "well":
                    weather.lossy = chance.choice((0.0, 0.01, 0.05))
                case _:
                    await self._more_faults(kind, name)

    async def _client(self, number: int) -> None:
        chance = self.chance
        mine = [key for at, key in enumerate(self._keys) if key.startswith("race/") and at % 2 == number % 2]
        turn = 0
        while True:
            await asyncio.sleep(chance.expovariate(1 / 0.4))
            turn += 1
            front = self._processes[chance.choice(_FRONTS)]
            draw = chance.random()
            if draw < 0.55:
                await self._asked(front, "read", chance.choice(self._keys))
            elif draw < 0.7:
                await self._asked(front, "event", chance.choice(self._keys))
            elif number < 2:  # one writer a key
                what = "delete" if draw < 0.9 else "write"
                await self._asked(front, what, chance.choice(mine), f"{number}-{turn}")

    async def _asked(self, front: Any, what: str, key: str, turn: str = "") -> None:
        """One request; a front that is killed or frozen leaves its client without an answer."""
        since = time.monotonic()
        body = written_by("c", key, hash_of(turn)) if what == "write" else b""
        value = value_of(body) if what == "write" else ABSENT
        if what in {"write", "delete"}:
            self.oracle.begins(key, value)
        calls = {
            "read": lambda: front.get(key), "event": lambda: front.event(key),
            "write": lambda: front.put(key, body), "delete": lambda: front.delete(key),
        }  # fmt: skip
        task = front.spawn(calls[what]())
        done, _ = await asyncio.wait({task}, timeout=30.0)
        failed = not done or task.cancelled() or task.exception() is not None
        if done and failed and not isinstance(task.exception(), FerrymanError):
            self.oracle.violated(f"{what} {key}: {task.exception()!r}")
        answer = None if failed else task.result()
        said = "no answer" if failed else str(answer)[:8]
        self.say(f"{what} {key}: {said} (asked at {since:.3f} of {front.name})")
        counted = f"{what}: no answer" if failed else what
        self.answers[counted] = self.answers.get(counted, 0) + 1
        match what:
            case "read" if answer is not None and answer not in self.oracle.possible(key, since):
                self.oracle.violated(f"GET {key}: {answer[:8]}{self.oracle.story(key)}")
            case "event" if answer:
                self.oracle.want(key)
            case "write" | "delete" if failed or answer is False:
                self.oracle.unknown(key, value)
            case "write" | "delete":
                self.oracle.ended(key, value)

    # ------------------------------------------------------------------ judgement
    async def _calm(self) -> None:
        """All is well from now on; everything ends."""
        weather, loop = self.weather, self.loop
        weather.lossy = 0.0
        weather.away.clear()  # who is frozen wakes up by himself
        self.say("all is mended")
        until = loop.time() + CALM_S
        while (left := self._under_way()) and loop.time() < until and not self.oracle.violations:  # noqa: ASYNC110
            await asyncio.sleep(5.0)
        if left:
            self.oracle.violated(f"not ended after {CALM_S:.0f} s: {left[:5]}")
        self._judge()

    def _under_way(self) -> list[str]:
        redis = self.redis
        left = [f"messages of {lane}" for lane in Lane if redis.hlen(f"ferryman:{lane}.msgs")]
        left += [f"delayed of {lane}" for lane in Lane if redis.zcard(f"ferryman:delayed:{lane}")]
        for name in redis.names(f"ferryman:claim:{BUCKET}\x00*"):
            held = str(redis.get(name))
            if held.split("|", maxsplit=1)[0] in {"pending", "queued", "running"}:
                left.append(f"claim {name.partition(chr(0))[2]!r}: {held}")
        return left

    def _judge(self) -> None:
        oracle = self.oracle
        if self.calm:
            for key, number in self.origin.asked.items():
                if key.startswith("pub/") and number > 1:
                    oracle.violated(f"{key} was asked for {number} times, and nothing went wrong")
        promised = [key for key in oracle.wanted if must_end(key)]
        listed = self.redis.hkeys(f"ferryman:failures:{BUCKET}")
        for key in self._keys:
            held = self.store.objects.get(key)
            value = ABSENT if held is None else value_of(held.body)
            possible = oracle.possible(key, time.monotonic())
            theirs = at_origin(key) and value_of(body_of(key)) in possible
            if held is not None and value not in possible:
                oracle.violated(f"the store's {key} must not have {value[:8]}{oracle.story(key)}")
            elif held is None and ABSENT not in possible and not theirs:
                oracle.violated(f"{key} was written and is not there{oracle.story(key)}")
            elif held is None and key in promised and ABSENT not in possible and key not in listed:
                oracle.violated(f"{key} was accepted, and is neither stored nor listed")


async def _nothing_to_end(*_: object) -> None:
    """Uploads of the simulated store leave nothing behind."""


def hash_of(turn: str) -> int:
    """A number of its own for each turn."""
    return int(turn.replace("-", "") or 0)
