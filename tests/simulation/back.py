"""The way back under the same faults: `BackWorld`.

Owns clients who write and delete by S3, the old bucket, and what must be so at any moment: of a key that is
not on record the bucket has what the store has. Fronts note, workers bring, as in life; what is in flight to
store or bucket when its sender is killed is done all the same, and some of what the store does not answer
it does long after. Excused is a delete that the store did and never answered: nobody is told that it is done,
and only its client can say that it was meant. Where a worker stands still for longer than its lease and sends
then what it had read before, it puts the key on record again, a moment later.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from hashlib import md5
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Self

from scheduler.front.s3.call import Refused
from scheduler.front.s3.tombstones import NotBuried, Tombstones
from scheduler.front.s3.write_back import WriteBack
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Rule, RuleSet, When
from scheduler.rules.write_back import routes
from simulation.loop import PROCESS
from simulation.processes import BUCKET, Process, Uncounted
from simulation.servers import Kept, SimulatedStore
from simulation.world import CALM_S, World
from torture.oracle import value_of
from workers.back.drain import Drain
from workers.back.settle import Settler
from workers.back_routes import encode_routes
from workers.errors import FerrymanError, OriginUnreachable, StoreUnavailable
from workers.ledger.back import DELETED, NOTHING, WRITTEN, routes_key
from workers.store.model import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_FRONTS: Final = ("front-a", "front-b")
_WORKERS: Final = ("cold-a", "cold-b")
#: Writers, each of one key of either kind, and keys of nobody, which only the old bucket has.
_WRITERS: Final = 3
#: Seconds for which a process stands still: within a lease, and beyond it.
_STILL_S: Final = (30.0, 100.0)
#: Seconds after which a store has done at last what nobody waits for any more.
_LATE_S: Final = 40.0
#: Seconds until a write that was overtaken is on record again.
_ON_RECORD_S: Final = 20.0


def _rule(mode: str) -> Rule:
    host = HostGroup(primary=OriginHost(host="old", credential="old"))
    return Rule(
        name=mode,
        when=When(prefix=f"{mode}/"),
        origin=OriginPart(hosts=(host,), write_back=mode),  # type: ignore[arg-type]
    )


RULES: Final = RuleSet(bucket=BUCKET, version=1, rules=(_rule("async"), _rule("sync")))


class BackStore(SimulatedStore):
    """The store as fronts write to it, and as whoever brings a key reads it."""

    def __init__(self, world: BackWorld) -> None:
        super().__init__(world.weather)
        self.world = world
        self.memory = SimpleNamespace(reserve=_reserve)
        self.settings = SimpleNamespace(part_size_bytes=64 << 20)
        self.limits = SimpleNamespace(memory_bytes=1 << 30)

    async def change(self, key: str, body: bytes | None, last: Callable[[], Awaitable[None]]) -> bool:
        """A PUT or DELETE whose last byte waits for `last`; False where it is refused."""
        world = self.world
        if self._weather.chance.random() < 0.1:
            await last()
            await self._call(lambda: None)
            return False
        await last()
        await world.in_flight("store", partial(world.changes, key, body), lost=StoreUnavailable)
        return True

    async def get(self, bucket: str, key: str) -> Any:
        del bucket
        found: Kept | None = await self._call(lambda: self.objects.get(key))
        return _Answer(self, key, found)


async def _reserve(*_: Any, **__: Any) -> _Nothing:
    return _Nothing()


class _Nothing:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class _Answer(_Nothing):
    headers = ()

    def __init__(self, store: BackStore, key: str, found: Kept | None) -> None:
        self._store = store
        self._found = found
        self.status = 404 if found is None else 200
        self.info = None if found is None else _info(key, found.body)

    async def read(self) -> bytes:
        assert self._found is not None
        await self._store._call(lambda: None)
        self._store.world.has_read()
        return self._found.body


def _info(key: str, body: bytes) -> ObjectInfo:
    etag = md5(body, usedforsecurity=False).hexdigest()
    return ObjectInfo(key=key, size=len(body), etag=etag, last_modified=0.0)


class OldBucket:
    """As much of `OriginWriter` as bringing needs, and what it writes to."""

    def __init__(self, world: BackWorld) -> None:
        self._world = world
        self.objects: dict[str, bytes] = {}
        self.wire = SimpleNamespace(is_out=lambda _: 0.0)

    async def head(self, route: Any, key: str) -> ObjectInfo | None:
        del route
        found = await self._world.in_flight("origin", lambda: self.objects.get(key), lost=_unreachable)
        return None if found is None else _info(key, found)

    async def put(self, route: Any, key: str, body: bytes, headers: Any, tags: Any) -> None:
        del route, headers, tags
        await self._world.in_flight("origin", lambda: self.objects.update({key: body}), lost=_unreachable)

    async def delete(self, route: Any, key: str) -> None:
        del route
        await self._world.in_flight("origin", lambda: self.objects.pop(key, None), lost=_unreachable)


_unreachable: Final = partial(OriginUnreachable, origin="old")


def _settler(world: BackWorld, process: Process) -> Settler:
    settler = Settler(
        ledger=process.ledger, store=world.store, writer=world.bucket, owner=process.name,  # type: ignore[arg-type]
        max_attempts=3, observer=Uncounted(),
    )  # fmt: skip
    settler._rng = random.Random(world.chance.random())
    return settler


class BackFront(Process):
    """Writes and deletes, as `scheduler.front.s3.calls` orders them; False: refused."""

    def __init__(self, world: BackWorld, name: str) -> None:
        super().__init__(world, name)
        self._store: BackStore = world.store
        self._write_back = WriteBack(self.ledger.back, _settler(world, self))
        self._write_back._front = name
        self._tombstones = Tombstones(self.ledger.claims, wait_s=5.0)
        self._requests = 0

    async def put(self, key: str, body: bytes) -> bool:
        async with self._write_back.noting(RULES, BUCKET, [key], "PutObject") as noted:
            mark = await self._tombstones.found(BUCKET, key)
            if not await self._store.change(key, body, noted.asking):
                noted.came(NOTHING)
                return False
            if mark is not None:
                await self._tombstones.lift(BUCKET, key, mark)
            noted.came(WRITTEN)
            await noted.settle()
        return True

    async def delete(self, key: str) -> bool:
        self._requests += 1
        async with self._write_back.noting(RULES, BUCKET, [key], "DeleteObject") as noted:
            try:
                buried = await self._tombstones.bury(
                    BUCKET, [key], request_id=f"{self.name}-{self._requests}"
                )
            except NotBuried:
                return False
            if not await self._store.change(key, None, noted.asking):
                await self._tombstones.take_back(buried, [key])
                noted.came(NOTHING)
                return False
            await self._tombstones.keep(buried)
            noted.came(DELETED)
            await noted.settle()
        return True


class BackWorker(Process):
    """Brings what is due."""

    def __init__(self, world: BackWorld, name: str) -> None:
        super().__init__(world, name)
        self.spawn(Drain(self.ledger.back, _settler(world, self), concurrency=3).run())


class BackWorld(World):
    """Writers, and a bucket that is to have what they wrote."""

    more_kinds = ("still", "still", "still")
    shown_by = "written"

    def __init__(self, seed: int, spool: Path) -> None:
        super().__init__(seed, spool)
        self.workers, self.fronts = {}, ()
        self.others = dict.fromkeys((*_FRONTS, *_WORKERS))
        self.store: BackStore = BackStore(self)
        self.bucket = OldBucket(self)
        self._keys = [f"{mode}/{n}" for mode in ("async", "sync") for n in range(_WRITERS)]
        for key in self._keys:
            self.bucket.objects[key] = f"{key} as it was".encode()
        #: Keys that nobody has changed yet: only the bucket has them.
        self._untouched = set(self._keys)
        #: Keys whose last change was a delete that nobody was told of.
        self._unsure: set[str] = set()
        self._excused_until = self._thaws_at = 0.0
        #: Seconds between two changes of a key, at most.
        self._pause_s = 1.0
        #: Workers that stand still as soon as they have read an object.
        self._about_to: set[str] = set()
        self._over = False

    def changes(self, key: str, body: bytes | None) -> None:
        """The store does it."""
        self._untouched.discard(key)
        if body is None:
            self.store.objects.pop(key, None)
            self._unsure.add(key)
        else:
            self.store.objects[key] = Kept(body, "")
            self._unsure.discard(key)

    async def in_flight(self, server: str, do: Callable[[], Any], *, lost: Callable[[str], Exception]) -> Any:
        """A request that has left its sender: it is done, whether that one lives or not."""
        chance, weather, loop = self.chance, self.weather, self.loop
        if server in weather.away:
            return await weather.call(server, do, lost=lost)
        throw, slow, lossy = chance.random(), 20.0 if chance.random() < 0.1 else 1.0, weather.lossy
        late = server == "store" and lossy / 2 <= throw < lossy and chance.random() < 0.3
        sent = loop.create_future()

        def done() -> None:
            answer = do()
            if not sent.done():
                sent.set_result(answer)

        if throw >= lossy / 2:
            token = PROCESS.set("")
            after_s = chance.uniform(5.0, _LATE_S) if late else chance.expovariate(1 / 0.01) * slow
            loop.call_later(after_s, done)
            PROCESS.reset(token)
            answer = None if late else await sent
        await asyncio.sleep(chance.expovariate(1 / 0.002) * slow)
        if throw < lossy:
            raise lost("the call was lost, or its answer")
        return answer

    # ------------------------------------------------------------------ what happens
    async def _schedule(self) -> None:
        self.redis.hset(routes_key("ferryman"), BUCKET, encode_routes(routes(RULES)))
        self.redis.zadd("ferryman:tombstoned", {BUCKET: 4e9})
        for name in self.others:
            self._boot(name)
        loop = self.loop
        judge = loop.create_task(self._always())
        writers = [loop.create_task(self._writer(n)) for n in range(_WRITERS)]
        await (asyncio.sleep(15.0) if self.calm else self._faults())
        if self._thaws_at > loop.time():  # what it has read is old by then
            self._pause_s = 5.0
            await asyncio.sleep((self._thaws_at - loop.time()) * self.chance.uniform(0.8, 1.0))
        self._over = True
        self.weather.lossy = 0.0
        self.weather.away.clear()
        self.say("all is mended")
        await asyncio.wait(writers)
        await asyncio.sleep(max(0.0, self._thaws_at - loop.time()) + 1.0)
        until = loop.time() + CALM_S
        while (left := self._on_record()) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(5.0)
        judge.cancel()
        if left:
            self.oracle.violated(f"still on record after {CALM_S:.0f} s: {left}")
        self._compare()

    def _other(self, name: str, alive: str) -> Any:
        return (BackFront if name in _FRONTS else BackWorker)(self, alive)

    async def _more_faults(self, kind: str, name: str) -> None:
        self.say(f"{kind} {name}")
        if name in _WORKERS and self.chance.random() < 0.7:
            self._about_to.add(self._processes[name].name)
        else:
            self._stands_still(name)

    def has_read(self) -> None:
        """A worker has an object's bytes in its hands: some stand still just then."""
        if (alive := PROCESS.get()) in self._about_to:
            self._about_to.discard(alive)
            self._stands_still(alive.partition(".")[0])

    def _stands_still(self, name: str) -> None:
        alive, seconds = self._processes[name].name, self.chance.choice(_STILL_S)
        token = PROCESS.set("")
        self.loop.frozen.add(alive)
        self.loop.call_later(seconds, self._wakes, name, alive, self.chance.choice((None, 0.002, 0.05)))
        self._hit(alive, seconds)
        PROCESS.reset(token)
        if seconds == _STILL_S[1]:
            self._thaws_at = self.loop.time() + seconds

    def _wakes(self, name: str, alive: str, lives_s: float | None) -> None:
        """It goes on where it stood, and may be killed before it can say what it did."""
        self.loop.frozen.discard(alive)
        if lives_s is not None:
            self.loop.call_later(lives_s, self._ends, name, alive)

    def _ends(self, name: str, alive: str) -> None:
        if self._processes[name].name == alive:
            self.say(f"kill {name}")
            self.loop.kill(alive)
            self._boot(name)

    def _hit(self, whom: str, seconds: float) -> None:
        if whom.startswith((*_WORKERS, *_FRONTS)):
            self._excused_until = max(self._excused_until, self.loop.time() + seconds + _ON_RECORD_S)

    async def _writer(self, number: int) -> None:
        chance, turn = self.chance, 0
        while not self._over:
            await asyncio.sleep(chance.choice((0.02, 0.15, 1.0)) * chance.random() * self._pause_s)
            turn += 1
            key = f"{chance.choice(('async', 'sync'))}/{number}"
            front = self._processes[chance.choice(_FRONTS)]
            body = None if chance.random() < 0.3 else f"{key} {turn}".encode()
            await self._change(front, key, body)

    async def _change(self, front: BackFront, key: str, body: bytes | None) -> None:
        task = front.spawn(front.delete(key) if body is None else front.put(key, body))
        done, _ = await asyncio.wait({task}, timeout=30.0)
        what = "delete" if body is None else "write"
        error = task.exception() if done else None
        if error is not None and not isinstance(error, (FerrymanError, Refused)):
            self.oracle.violated(f"{what} {key}: {error!r}")
        failed = not done or error is not None
        answer = "no answer" if failed else "done" if task.result() else "refused"
        self.say(f"{what} {key} {value_of(body or b'')[:8]} by {front.name}: {answer}")
        counted = "deleted" if body is None else "written"
        counted = counted if answer == "done" else f"{what}: {answer}"
        self.answers[counted] = self.answers.get(counted, 0) + 1
        if answer != "done":
            return
        if body is None and key not in self.store.objects:
            self._unsure.discard(key)
        if key.startswith("sync/") and self.loop.time() > self._excused_until:
            self._compare_one(key, "was answered")

    # ------------------------------------------------------------------ judgement
    async def _always(self) -> None:
        while not self.oracle.violations:
            await asyncio.sleep(self.chance.expovariate(1 / 0.2))
            if self.loop.time() > self._excused_until:
                self._compare()

    def _on_record(self) -> list[str]:
        return list(self.redis.hkeys(f"ferryman:back:keys:{BUCKET}"))

    def _compare(self) -> None:
        for key in {*self._keys} - {*self._on_record()}:
            self._compare_one(key, "is not on record")

    def _compare_one(self, key: str, why: str) -> None:
        held, there = self.store.objects.get(key), self.bucket.objects.get(key)
        ours = None if held is None else held.body
        if key in self._untouched:
            ours = f"{key} as it was".encode()
        elif ours is None and key in self._unsure:
            return
        if ours != there:
            self.oracle.violated(f"{key} {why}: the store has {ours!r}, the old bucket {there!r}")
