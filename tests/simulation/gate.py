"""A migration from its scan to the open gate, under the same faults: `GateWorld`.

Owns the operator, who scans, verifies and looks at the gate again and again, and what must be so whenever it
is open: the store has every key that the inventory has and every key that somebody was promised, and nobody
was given anything of an origin within the quiet period. Comparing threads are steps here, the inventory
is given, and a listing is read whole before it is compared; all else of scan, verification and gate is the
house's.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import orjson
from redis.exceptions import RedisError

from scheduler.front.stats import GatewayStats
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Rule, RuleSet
from scheduler.scan.compare import compare
from scheduler.scan.compare.bounded import bounded
from scheduler.scan.compare.merge import Block
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import Header, header_line
from scheduler.scan.gate.gate import look
from scheduler.scan.inventory.entry import Collation
from scheduler.scan.record.state import ScanOptions
from scheduler.scan.run import Coordinator
from scheduler.scan.service import ScanService
from scheduler.scan.verify.verify import Verifier
from simulation.processes import BUCKET, Process
from simulation.world import World
from torture.content import body_of, must_end
from workers.errors import FerrymanError
from workers.plan import Lane
from workers.store.model import ListedObject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.scan.gate.gate import Verdict
    from simulation.processes import Front

SCAN: Final = "all"
_RULE: Final = "r"
#: Seconds between two looks of the operator.
_LOOK_S: Final = 12.0
#: Seconds until a front's answers are on record: while all is well, and by the minutes that must be there.
_ON_RECORD_S: Final = (12.0, 185.0)
#: Seconds after the quiet period within which the gate opens when all is well.
_OPENS_WITHIN_S: Final = 900.0
#: How much longer than that it is looked at where it must not open.
_STAYS_SHUT_S: Final = 100.0
_PAGE: Final = 3


class SimulatedCoordinator(Coordinator):
    """One whose inventory was sorted beforehand."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, clock=asyncio.get_running_loop().time, **more)

    async def _read_inventory(self) -> None:
        keys: list[str] = sorted(self._services.inventory)  # type: ignore[attr-defined]
        path = self._directory / f"{self.state.run}.sorted"
        head = header_line(Header(collation=Collation.BYTES, of=inventory_of(self.state)))
        path.write_bytes(head + "".join(f"{key}\t\t\t\n" for key in keys).encode())
        await self._put(
            replace(
                self.state,
                inventory_complete=True,
                inventory_file=str(path),
                inventory_keys=len(keys),
                read=len(keys),
            )
        )


class _Services(Process):
    """What a process of the scheduler works with."""

    def __init__(self, world: GateWorld, name: str, folder: Path) -> None:
        super().__init__(world, name)
        self.inventory = world.inventory
        self.redis = self.ledger.redis
        self.fetcher = world.origin
        self.store = _ScansStore(world)
        self.settings = SimpleNamespace(
            data_dir=folder, scans={}, report_bucket="", buckets={BUCKET: None},
            broker=SimpleNamespace(namespace="ferryman"),
            store=SimpleNamespace(endpoint="http://store", access_key_id="key"),
        )  # fmt: skip

        async def rules(_: str = "") -> RuleSet:
            return world.ruleset

        async def history(_: str) -> list[Any]:
            return [SimpleNamespace(at=0.0)]

        self.rules = SimpleNamespace(
            snapshot=lambda _: world.ruleset, read=rules, refresh=rules, history=history
        )


class _ScansStore:
    """The store as scans see it; what they write for themselves is no object of the bucket."""

    def __init__(self, world: GateWorld) -> None:
        self._world = world
        self._own: dict[str, bytes] = {}

    async def guarantees(self, _: str) -> Any:
        return SimpleNamespace(collation="bytes")

    async def head(self, bucket: str, key: str) -> Any:
        return await self._world.store.head(bucket, key)

    async def put_small(self, _: str, key: str, body: bytes, **__: Any) -> None:
        await self._world.store._call(lambda: self._own.__setitem__(key, body))

    async def delete(self, _: str, key: str) -> None:
        await self._world.store._call(lambda: self._own.pop(key, None))

    async def list(self, _: str, prefix: str) -> Any:
        """Our own, a page."""
        found = await self._world.store._call(lambda: [key for key in self._own if key.startswith(prefix)])
        yield SimpleNamespace(objects=[ListedObject(key, 0, "e", 0.0) for key in found])

    async def listed(self, after: str | None) -> list[ListedObject]:
        """The bucket, page by page."""
        found: list[ListedObject] = []
        while True:
            page = await self._world.store._call(lambda after=after: self._page(after))
            found += page
            if len(page) < _PAGE:
                return found
            after = page[-1].key

    def _page(self, after: str | None) -> list[ListedObject]:
        objects = self._world.store.objects
        keys = sorted(key for key in objects if after is None or key > after)[:_PAGE]
        return [ListedObject(key, len(objects[key].body), "e", 0.0) for key in keys]


async def _listing_in(
    collation: Collation, store: _ScansStore, *_: Any, after: str | None = None, of: Any = None, **__: Any
) -> Any:
    found = await store.listed(after)
    block = Block([one.key for one in found], found)
    blocks = [block] if found else []
    return SimpleNamespace(continuation=None), iter(blocks) if of is None else bounded(blocks, of, collation)


async def _at_once(do: Any, *args: Any, **options: Any) -> Any:
    await asyncio.sleep(0.001)
    return do(*args, **options)


class GateWorld(World):
    """Clients who come to an end, an operator who wants to be rid of the origin, and coordinators."""

    more_kinds = ("forget", "clock", "cut")
    patience = 4.0

    def __init__(self, seed: int, spool: Path) -> None:
        super().__init__(seed, spool)
        chance, base = self.chance, seed % 1000 * 1000
        self.calm = seed // 4 % 3 == 0
        self.weather.slow_bodies = not self.calm
        self.inventory = [f"pub/{base + n}" for n in range(7)] + ["gone/1", "gone/2"]
        #: Keys that the inventory does not know.
        self._unknown = [f"pub/{base + n}" for n in range(20, 60)]
        self._keys = [*self.inventory, *self._unknown]
        #: The origin refuses a key: of the inventory, or one that clients ask for. Then nothing may open.
        self._refused = chance.random() < 0.25
        if self._refused and chance.random() < 0.5:
            self.inventory.append("bad/1")
        elif self._refused:
            self._unknown += ["bad/1"] * 10
        self.ruleset = RuleSet(
            bucket=BUCKET,
            version=1,
            rules=(Rule(name=_RULE, origin=OriginPart(hosts=(HostGroup(primary=OriginHost(host="o")),))),),
        )
        #: How long nobody may have needed an origin.
        self.quiet_s = chance.choice((240.0, 300.0))
        #: When a front gave a client what an origin has, and which front; when a worker stored for an event.
        self.given: list[tuple[float, str]] = []
        self.pulled: list[float] = []
        self._killed: list[tuple[float, Front]] = []
        self._opened_at: float | None = None
        #: When everything was mended.
        self._mended_at: float | None = None
        self.store.committed = self._committed
        self.workers = {"hot-a": Lane.HOT, "cold-a": Lane.COLD, "cold-b": Lane.COLD}
        self.others = {"scan-a": self._coordinating, "scan-b": self._coordinating}
        self.wrong_clock: dict[str, float] = {}

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        with (
            super()._patched(),
            mock.patch.object(asyncio, "to_thread", _at_once),
            mock.patch("scheduler.scan.comparing.listing_in", _listing_in),
            mock.patch("scheduler.scan.verify.one_range.listing_in", _listing_in),
            mock.patch("scheduler.scan.service.Coordinator", SimulatedCoordinator),
            mock.patch.object(compare, "WINDOW_MISSING", 3),
            mock.patch.object(compare, "WINDOW_PAIRS", 4),
        ):
            yield

    # ------------------------------------------------------------------ what is counted
    def stats_of(self, front: Front) -> Any:
        stats = GatewayStats(front.ledger, instance=front.name)
        front.spawn(stats._run())
        return stats

    def given_by(self, front: Front) -> None:
        # A clock that is behind by less than what may be missing shortens the quiet period by that.
        late = self.wrong_clock.get(front.name, 0.0)
        self.given.append((self.loop.time() + (late if -120.0 < late < 0.0 else 0.0), front.name))
        front.stats.answered("origin", BUCKET, _RULE)

    def _committed(self, key: str, process: str) -> None:
        if process.startswith("hot-"):
            self.say(f"{key} was pulled")
            self.pulled.append(self.loop.time())

    def _unrecorded(self, front: Front) -> None:
        """What a front that is dead had not written down nobody can know."""
        rows = self.redis.hgetall(f"ferryman:minutes:front:{front.name}").values()
        known = sum(orjson.loads(row).get(f"origin|{BUCKET}|{_RULE}", 0) for row in rows)
        mine = [one for one in self.given if one[1] == front.name]
        self.given = [one for one in self.given if one not in mine[known:]]

    # ------------------------------------------------------------------ what happens
    async def _schedule(self) -> None:
        for name in (*self.workers, *self.fronts, *self.others):
            self._boot(name)
        loop = self.loop
        clients = [loop.create_task(self._visitor()) for _ in range(2)]
        operator = loop.create_task(self._operator())
        try:
            await (asyncio.sleep(30.0) if self.calm else self._faults())
            if not self.calm and self.chance.random() < 0.5:
                self.weather.lossy = 0.0
                self.weather.away.clear()
                await asyncio.sleep(self.quiet_s)  # clocks and cables are not mended yet
            self._mend()
            # The last of them come late now and then, when the gate is about to open.
            await asyncio.sleep(self.chance.choice((0.0, 60.0, 200.0)))
        finally:
            for client in clients:
                client.cancel()
        must_open = not self._refused
        until = loop.time() + self.quiet_s + (_OPENS_WITHIN_S if must_open else _STAYS_SHUT_S)
        while loop.time() < until and not self.oracle.violations and self._opened_at is None:  # noqa: ASYNC110
            await asyncio.sleep(5.0)
        if must_open and self._opened_at is None and not self.oracle.violations:
            self.oracle.violated(f"the gate did not open: {self._shut}")
        operator.cancel()

    def _mend(self) -> None:
        self.weather.lossy = 0.0
        self.weather.away.clear()
        self.weather.cut.clear()
        self.wrong_clock.clear()
        self._mended_at = self.loop.time()
        self.say("all is mended")

    async def _more_faults(self, kind: str, name: str) -> None:
        if kind != "forget":
            name = self.chance.choice((name, *self.fronts))
        match kind:
            case "forget":
                since, kept = self.loop.time(), self.redis.kept()
                await asyncio.sleep(self.chance.uniform(0.1, 1.0))
                self.say(f"redis forgets what it was told since {since:.3f}")
                self.redis.back_to(kept)
                self.oracle.forgotten(since)
                self.pulled = [at for at in self.pulled if at < since - 2.0]
                for _, front in self._killed:
                    self._unrecorded(front)
            case "clock":
                step = self.chance.choice((-200.0, -70.0, 30.0, 130.0, 400.0))
                self.say(f"the clock of {name} is wrong by {step:.0f} s")
                self.wrong_clock[self._processes[name].name] = step

            case "cut":
                alive, seconds = self._processes[name].name, self.chance.choice((20.0, 150.0, 250.0))
                self.say(f"{name} does not reach redis for {seconds:.0f} s")
                self.weather.cut.add(alive)
                self.loop.call_later(seconds, self.weather.cut.discard, alive)

    def _dead(self, process: Any) -> None:
        if isinstance(getattr(process, "stats", None), GatewayStats):
            self._killed.append((self.loop.time(), process))
            self._unrecorded(process)

    async def _visitor(self) -> None:
        chance = self.chance
        while True:
            await asyncio.sleep(chance.expovariate(1 / 8.0))
            front = self._processes[chance.choice(self.fronts)]
            key = chance.choice(self.inventory if chance.random() < 0.4 else self._unknown)
            await self._asked(front, "read" if chance.random() < 0.7 else "event", key)

    async def _coordinating(self, process: _Services) -> None:
        service = ScanService(process)  # type: ignore[arg-type]
        while True:
            with contextlib.suppress(RedisError):
                await service.coordinate(SCAN)
            await asyncio.sleep(3.0)

    def _other(self, name: str, alive: str) -> Process:
        process = _Services(self, alive, self._spool)
        process.spawn(self.others[name](process))
        return process

    # ------------------------------------------------------------------ the operator
    async def _operator(self) -> None:
        here = _Services(self, "operator", self._spool)
        service = ScanService(here)  # type: ignore[arg-type]
        options = ScanOptions(bucket=BUCKET, inventory={"manifest": "given"}, max_absent=1.0)
        damage = self.chance.random() < 0.3
        self._shut = "nobody looked"
        scan_again = True
        while True:
            await asyncio.sleep(_LOOK_S * self.chance.uniform(0.5, 1.5))
            try:
                await self._forget_watchers(here)
                state = await service.states.get(SCAN)
                if scan_again or state is None or state.phase == "failed":
                    await service.start(SCAN, options)
                    scan_again = False
                    continue
                if state.phase != "done":
                    continue
                if damage and not self.calm:
                    damage = False
                    lost = self.chance.choice(self.inventory)
                    self.say(f"{lost} is taken out of the store")
                    self.store.objects.pop(lost, None)
                began = self.loop.time()
                verdict = await look(here, state, quiet_s=self.quiet_s)  # type: ignore[arg-type]
                self._judge_gate(verdict, began)
                shut = {one.name for one in verdict.conditions if not one.ok and not one.warning}
                if "verify_clean" in shut:
                    report = await Verifier(here, state).run()  # type: ignore[arg-type]
                    self.say(f"verified: {report.counts} clean {report.clean}")
                    scan_again = not report.clean
                elif shut & {"scan_complete", "account_balances", "nothing_missing"}:
                    scan_again = True
                elif "failures_settled" in shut:
                    await self._retry(here)
            except (RedisError, FerrymanError, OSError) as error:
                self.say(f"operator: {error}")

    async def _forget_watchers(self, here: _Services) -> None:
        """Say of fronts that are gone for good that they are; again, where Redis forgot it."""
        ended = await here.ledger.minutes.ended() if self._killed else frozenset()
        for at, front in self._killed:
            watcher = f"front:{front.name}"
            if self.loop.time() > at + 20.0 and watcher not in ended:
                await here.ledger.minutes.retire(watcher)

    async def _retry(self, here: _Services) -> None:
        """Failures of bad weather are mended by another scan; a listed key is asked for again by that."""
        listed = await here.ledger.failures.keys(BUCKET, most=100)
        good = [key for key in listed if not key.startswith("bad/")]
        for key in good:
            await self._processes[self.fronts[0]].event(key)

    def _judge_gate(self, verdict: Verdict, began: float) -> None:
        shut = [f"{one.name}: {one.evidence}" for one in verdict.conditions if not one.ok and not one.warning]
        self._shut = "; ".join(shut)
        self.say(f"gate: {self._shut or 'open'}")
        if not verdict.open:
            return
        self._opened_at = self.loop.time()
        for key in sorted({*self.inventory, *self.oracle.wanted}):
            held = self.store.objects.get(key)
            if must_end(key) and (held is None or held.body != body_of(key)):
                self.oracle.violated(f"the gate is open, and the store lacks {key}")
        on_record = _ON_RECORD_S[0 if self.calm else 1]
        for at, front in self.given:
            if began - self.quiet_s < at < began - on_record:
                self.oracle.violated(f"the gate is open, and {front} gave what an origin has at {at:.3f}")
        for at in self.pulled:
            if began - self.quiet_s < at < began - 1.0:
                self.oracle.violated(f"the gate is open, and a key was pulled for an event at {at:.3f}")
