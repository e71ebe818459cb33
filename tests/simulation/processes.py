"""The processes: a worker that works off messages, and a front that pulls, dispatches, writes and deletes.

Owns how the house's parts are put together, as `workers.queue.process` and `scheduler.front` do it; what they
call outside is simulated. A process is killed by its name, see `loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from contextvars import copy_context
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import RedisError

from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.front.pull.afterwards import Afterwards
from scheduler.front.pull.claim import FrontClaims
from scheduler.front.pull.fill import Fill, InStore, NotFound, Opened
from scheduler.front.pull.herd import Herd
from scheduler.front.pull.jobs import Jobs
from scheduler.front.pull.pump import Pump
from scheduler.front.pull.spool import BodyFailed, BodyUnavailable, Spool
from scheduler.front.pull.tee import Tee
from scheduler.front.s3.tombstones import NotBuried, Tombstones
from simulation.loop import PROCESS
from simulation.redis_client import SimulatedRedis
from torture.oracle import ABSENT, value_of
from workers.errors import StoreError, WireError
from workers.ledger.claims import ClaimState
from workers.ledger.ledger import Ledger
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.leases import LeaseKeeper
from workers.queue.queue import JobQueue
from workers.queue.recording import Insisting
from workers.queue.runner import BatchRunner
from workers.queue.strays import LOOK_EVERY_S, Strays
from workers.settings import BrokerSettings, LimitSettings
from workers.transfer import Mover

if TYPE_CHECKING:
    from pathlib import Path

    from simulation.world import World

BUCKET: Final = "site"
PLAN: Final = FetchPlan(bucket=BUCKET, rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
_THREADS: Final = 4
#: Seconds between two looks for messages.
_IDLE_S: Final = (0.2, 3.0)
_BROKER: Final = BrokerSettings()
_LIMITS: Final = LimitSettings(max_attempts=3)
_HEARTBEAT_MS: Final = int(_BROKER.heartbeat_timeout_s * 1000)


def item_of(key: str) -> FetchItem:
    """The item of a miss."""
    return FetchItem(key=key, path=f"/{key}")


class Process:
    """One process from its start on; made anew after it was killed."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        weather, model = world.weather, world.redis
        self.ledger = Ledger(SimulatedRedis(model, weather, decode=True))  # type: ignore[arg-type]
        self.queue = JobQueue(SimulatedRedis(model, weather, decode=False), _BROKER)  # type: ignore[arg-type]

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task of this process."""
        context = copy_context()
        context.run(PROCESS.set, self.name)
        token = PROCESS.set(self.name)
        try:
            return self.world.loop.create_task(coroutine, context=context)
        finally:
            PROCESS.reset(token)


class Worker(Process):
    """Takes messages of one lane."""

    def __init__(self, world: World, name: str, lane: Lane) -> None:
        super().__init__(world, name)
        self._lane = lane
        self._dispatch = self.queue._dispatch
        self._strays = Strays(lane)
        self._running = 0
        leases = LeaseKeeper(self.ledger.claims, owner=f"worker-{name}")
        observer = SimpleNamespace(finished=lambda *_: None, failed=lambda *_, **__: None)
        mover = Mover(
            fetcher=world.origin, store=world.store, now=lambda: datetime.now(UTC),  # type: ignore[arg-type]
            late=self._note_late,
        )  # fmt: skip
        self._runner = BatchRunner(
            ledger=self.ledger, queue=self.queue, mover=mover, epochs=self, leases=leases,
            limits=_LIMITS, observer=observer,
        )  # fmt: skip
        self._runner._rng = random.Random(world.chance.random())
        for task in (leases.run(), self._promote(), self._heartbeat(), self._look(), self._consume()):
            self.spawn(task)

    async def _note_late(self, bucket: str, key: str) -> None:
        await Insisting()(lambda: self.ledger.claims.note_late(bucket, key))

    async def is_live(self, *_: object) -> bool:
        """The one rule is in force."""
        return True

    async def _command(self, command: str, *args: Any) -> Any:
        given = [command, int(time.time() * 1000), self._lane.value, self.name, _HEARTBEAT_MS, 0]
        tidy = int(self.world.chance.random() < 0.25)
        return await self._dispatch(["ferryman"], [*given, tidy, 100, *args])

    async def _consume(self) -> None:
        idle_s = _IDLE_S[0]
        while True:
            idle_s = min(
                2 * idle_s, _IDLE_S[1] * self.world.patience
            )  # as dramatiq: the longer the less there was
            with contextlib.suppress(RedisError):
                free = _THREADS - self._running
                for data in (await self._command("fetch", free)) or [] if free else []:
                    self._running += 1
                    self.spawn(self._message(orjson.loads(data)))
                    idle_s = _IDLE_S[0]
            await asyncio.sleep(idle_s)

    async def _message(self, message: dict[str, Any]) -> None:
        known = SimpleNamespace(options={"redis_message_id": message["message_id"]})
        self._strays.begins(known)
        end = "ack"
        try:
            await self._runner.run(message["kwargs"]["batch"])
        except WireError:
            end = "nack"
        self._strays.ends(known)
        self._running -= 1
        for _ in range(5):
            try:
                await self._command(end, message["message_id"])
                return
            except RedisError:
                await asyncio.sleep(1.0)

    async def _promote(self) -> None:
        while True:
            with contextlib.suppress(RedisError):
                await self.queue.promote_due(self._lane)
            await asyncio.sleep(1.0 * self.world.patience)

    async def _heartbeat(self) -> None:
        while True:
            with contextlib.suppress(RedisError):
                await self.queue.heartbeat(self.name, member=f"g:{self.name}")
            await asyncio.sleep(_BROKER.heartbeat_timeout_s / 4)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(RedisError):
                await self._strays.look(self.queue, self.name)


class Uncounted:
    """Counts nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


class Front(Process):
    """What a gateway process does with keys. Every method is a request."""

    def __init__(self, world: World, name: str, spool: Path) -> None:
        super().__init__(world, name)
        self._claims = FrontClaims(self.ledger.claims, self.ledger.failures, owner=f"front-{name}")
        self.ledger.claims.remember_tombstoned([BUCKET])  # as it would have it on disk
        self._dispatcher = Dispatcher(
            rules=SimpleNamespace(snapshot=lambda _: None), ledger=self.ledger, queue=self.queue,  # type: ignore[arg-type]
            buckets={BUCKET: None}, max_depth=10_000,
        )  # fmt: skip
        stats = self.stats = world.stats_of(self)
        self._herd = Herd(lambda fill: self._pump.run(fill))  # noqa: PLW0108 -- made below
        after = Afterwards(
            herd=self._herd, absent_cache=Uncounted(), jobs=Jobs(self._dispatcher, stats), stats=stats
        )
        tee = Tee(
            store=world.store, claims=self._claims, afterwards=after, stats=stats, max_object_bytes=None,  # type: ignore[arg-type]
            spool=Spool(spool, memory_bytes=1 << 24, disk_bytes=1 << 24, window_bytes=1 << 20),
        )  # fmt: skip
        self._pump = Pump(
            fetcher=world.origin, store=world.store, claims=self._claims, tee=tee, afterwards=after,  # type: ignore[arg-type]
            herd_wait_s=5.0,
        )  # fmt: skip
        self._tombstones = Tombstones(self.ledger.claims, wait_s=5.0)
        self._requests = 0
        self.spawn(self._start())

    async def _start(self) -> None:
        self._claims.start()

    async def get(self, key: str) -> str | None:
        """What a client gets: the value, ABSENT, or None for an answer that is a failure."""
        looked_at = self.world.loop.time()
        for _ in range(2):
            try:
                body = await self.world.store.read(key)
            except StoreError:
                return None
            if body is not None:
                return value_of(body)
            fill = self._herd.running(BUCKET, key)
            if fill is None:
                if self._herd.stored_since(BUCKET, key, looked_at):
                    continue
                fill = self._herd.start(Fill(plan=PLAN, item=item_of(key), looked_at=looked_at))
            seat = fill.join()
            try:
                opening = await asyncio.shield(fill.opening)
                if isinstance(opening, InStore):
                    looked_at = self.world.loop.time()
                    continue
                if isinstance(opening, Opened):
                    self.world.given_by(self)
                    return await self._read(opening, seat)
                return ABSENT if isinstance(opening, NotFound) else None
            finally:
                seat.leave()
        return None

    @staticmethod
    async def _read(opening: Opened, seat: Any) -> str | None:
        got = bytearray()
        try:
            reader = opening.body.reader()
        except BodyUnavailable:
            return None
        seat.take()
        try:
            while chunk := await reader.read_some():
                got += chunk
            return None if reader.failure is not None else value_of(bytes(got))
        except BodyFailed:
            return None
        finally:
            reader.close()

    async def event(self, key: str) -> bool:
        """Whether the event was accepted."""
        state = await self._dispatcher.dispatch_planned(PLAN, item_of(key), lane=Lane.HOT)
        return state in {ClaimState.CLAIMED, ClaimState.DUPLICATE}

    async def put(self, key: str, body: bytes) -> None:
        """A client's write, as `scheduler.front.s3.calls` orders it."""
        mark = await self._tombstones.found(BUCKET, key)
        await self.world.store.put(key, body)
        if mark is not None:
            await self._tombstones.lift(BUCKET, key, mark)

    async def delete(self, key: str) -> bool:
        """A client's delete; False where it was refused."""
        self._requests += 1
        try:
            buried = await self._tombstones.bury(BUCKET, [key], request_id=f"{self.name}-{self._requests}")
        except NotBuried:
            return False
        await self.world.store.delete(key)
        await self._tombstones.keep(buried)
        return True
