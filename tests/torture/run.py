"""One run: the load begins, the faults come by their schedule, all is mended, and everything is judged.

Owns what each kind of fault does to the system and how it is taken back. Prints nothing; see `__main__`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from torture.around.messages import LANES, move_list, put_other_versions, put_twice
from torture.checks import Look, judge_contents, judge_gate, judge_processes, judge_scan, settle
from torture.checks_back import judge_back
from torture.content import N_FLUX
from torture.oracle import Oracle
from torture.people.clients import Numbers
from torture.people.everybody import make_clients
from torture.people.operators import Operator, Returner, Verifier
from torture.schedule import OLDER, ORIGINS, PARTS, SERVERS, Fault, Kind
from torture.system import PAUSE_S, System

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Events that a report shows.
_SHOWN = 200
#: The exit code of a wrong configuration, and how often in a row it is a violation.
_USAGE, _REFUSALS = 2, 3
#: Seconds that slots of an origin are lent for.
_LEASE_S = 15.0
_ORIGIN_KINDS = {Kind.ORIGIN_STATUS, Kind.ORIGIN_CUT, Kind.ORIGIN_STALL, Kind.ORIGIN_LIE}
_CABLE_KINDS = {Kind.CUT, Kind.STALL, Kind.MUTE, Kind.BURST, Kind.SLOW}


@dataclass(slots=True)
class Result:
    """What came of a run."""

    seed: int
    seconds: float
    faults: tuple[Fault, ...]
    violations: list[str] = field(default_factory=list)
    #: The last events in order, as text.
    events: list[str] = field(default_factory=list)
    #: What clients saw, and how much was moved.
    answers: Counter[str] = field(default_factory=Counter)
    objects: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    settled_s: float = 0.0


class Run:
    """Hits a system by a schedule; `faults` may be fewer than the seed makes."""

    def __init__(
        self,
        root: Path,
        *,
        seed: int,
        seconds: float,
        faults: Sequence[Fault],
        tree: Path | None = None,
        older: Path | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._oracle = Oracle()
        self._system = System(root, self._oracle, seed=seed, tree=tree, older=older, pause_s=pause_s)
        self._result = Result(seed=seed, seconds=seconds, faults=tuple(faults))
        self._events: deque[str] = deque(maxlen=_SHOWN)
        self._numbers = Numbers()
        self._began = 0.0
        #: Taken back at: what to do.
        self._due: list[tuple[float, Fault]] = []
        #: How often in a row a part ended by saying that its configuration is wrong, which it is not.
        self._refused: Counter[str] = Counter()
        #: Parts that a fault holds down.
        self._down: Counter[str] = Counter()
        #: Held while Redis comes back with what it had before.
        self._cutting = threading.Lock()

    def __call__(self) -> Result:
        """Run it to its end."""
        with self._system as system:
            clients = make_clients(system, self._numbers, seed=self._result.seed)
            look = Look(system)
            for kind in (Operator, Verifier, Returner):
                one = kind(kind.__name__.lower(), system, self._numbers, seed=self._result.seed)
                one.look = look
                clients.append(one)
            self._began = time.monotonic()
            for client in clients:
                client.start()
            try:
                self._hit()
            finally:
                for client in clients:
                    client.stop()
                # Where something is wrong already there is nothing more to be found out.
                wrong = bool(self._oracle.violations)
                for client in clients:
                    client.join(0.5 if wrong else 60)
                if not wrong:
                    self._mend()
            for client in clients:
                self._result.answers.update(client.answers)
            self._judge()
        self._result.violations = self._oracle.violations
        self._result.events = list(self._events)
        return self._result

    # ------------------------------------------------------------------ faults

    def _hit(self) -> None:
        waiting = deque(self._result.faults)
        while (now := time.monotonic() - self._began) < self._result.seconds:
            while waiting and waiting[0].at_s <= now:
                fault = waiting.popleft()
                self._say(f"{fault}")
                self._begin(fault)
                self._due.append((fault.at_s + fault.for_s, fault))
            for at_s, fault in sorted(self._due, key=lambda row: row[0]):
                if at_s <= now:
                    self._due.remove((at_s, fault))
                    self._end(fault)
            self._revive()
            if self._oracle.violations:
                return
            time.sleep(0.05)

    def _begin(self, fault: Fault) -> None:
        system, target = self._system, fault.target
        if fault.kind is Kind.POWER_CUT or (fault.kind is Kind.FREEZE and fault.for_s > _LEASE_S / 2):
            for origin in system.origins.values():
                origin.excused_until = time.monotonic() + fault.for_s + 2 * _LEASE_S
        if fault.kind is Kind.STALL and (way := target.partition(">")[2]) in ORIGINS:
            # Who has given up is not gone for the origin before the cable carries bytes again.
            system.origins[way].excused_until = time.monotonic() + fault.for_s + _LEASE_S
        match fault.kind:
            case Kind.KILL:
                self._down[target] += 1
                system.signal(target, signal.SIGKILL)
            case Kind.TERMINATE:
                self._down[target] += 1
                system.terminate(target)
            case Kind.FREEZE:
                system.signal(target, signal.SIGSTOP)
            case Kind.POWER_CUT:
                threading.Thread(target=self._cut_power, args=(fault.for_s,), daemon=True).start()
            case Kind.POWER_LOSS:
                self._down[target] += 1
                system.lose_power(target)
            case Kind.CLOCK:
                system.set_clock(target, fault.wrong_s)
            case Kind.TWICE | Kind.LATE | Kind.OTHER_VERSION | Kind.REDIS_FULL | Kind.REDIS_READ_ONLY:
                self._at_redis(fault)
            case Kind.CHANGE:
                for n in range(0, N_FLUX, 3):
                    self._oracle.changed(f"flux/{(n + int(fault.at_s)) % N_FLUX}")
            case Kind.OLD_WORKER:
                system.start(target)
            case Kind.ROTATE:
                system.disk.rotate()
            case Kind.COPY_TRUNCATE:
                if not system.disk.copy_truncate():
                    self._say("  no room for the copy: left out")
            case Kind.DISK_FULL:
                if not system.disk.fill():
                    self._say("  no small disk here: left out")
            case kind if kind in _ORIGIN_KINDS:
                system.origins[target].fault = kind
            case kind if kind in _CABLE_KINDS:
                system.cables[target].breaks(kind)

    def _end(self, fault: Fault) -> None:
        system, target = self._system, fault.target
        match fault.kind:
            case Kind.KILL | Kind.TERMINATE | Kind.POWER_LOSS:
                self._down[target] -= 1
            case Kind.FREEZE:
                system.signal(target, signal.SIGCONT)
            case Kind.CLOCK:
                system.set_clock(target, 0.0)
            case Kind.LATE:
                self._give_back()
            case Kind.REDIS_FULL | Kind.REDIS_READ_ONLY:
                self._redis_is_well()
            case Kind.DISK_FULL:
                system.disk.free()
            case Kind.OLD_WORKER:
                system.terminate(target)
            case kind if kind in _ORIGIN_KINDS:
                system.origins[target].fault = None
            case kind if kind in _CABLE_KINDS:
                system.cables[target].breaks(None)

    def _revive(self) -> None:
        """Whatever does not run and is not held down is started again, as an init system would."""
        for name in (*SERVERS, *PARTS):
            if self._down[name] <= 0 and not self._system.runs(name):
                refused = self._system.ended_with(name) == _USAGE
                self._refused[name] = self._refused[name] + 1 if refused else 0
                if self._refused[name] == _REFUSALS:
                    self._oracle.violated(f"{name} refuses to start, as if its configuration were wrong")
                self._say(f"  {name} ended with {self._system.ended_with(name)}, and is started again")
                self._system.start(name)

    def _cut_power(self, seconds: float) -> None:
        if not self._cutting.acquire(blocking=False):
            self._say("  its power is cut already: left out")
            return
        self._down["redis"] += 1
        try:
            self._system.power_cut(seconds)
        finally:
            self._down["redis"] -= 1
            self._cutting.release()

    def _at_redis(self, fault: Fault) -> None:
        try:
            client = self._system.direct_redis(0)
            match fault.kind:
                case Kind.REDIS_FULL:
                    client.config_set("maxmemory", "1mb")
                case Kind.REDIS_READ_ONLY:
                    client.config_set("min-replicas-to-write", "1")
                case Kind.LATE:
                    for lane in LANES:
                        move_list(client, f"ferryman:{lane}", f"torture:late:{lane}")
                case Kind.OTHER_VERSION:
                    put_other_versions(client, self._system, self._numbers)
                case _:
                    put_twice(client)
        except redis.RedisError as error:
            self._say(f"  not done: {error}")

    def _give_back(self) -> None:
        """What was kept from its lane is on it again, behind what has come meanwhile."""
        try:
            client = self._system.direct_redis(0)
            for lane in LANES:
                move_list(client, f"torture:late:{lane}", f"ferryman:{lane}")
        except redis.RedisError as error:
            self._say(f"  not given back: {error}")

    def _redis_is_well(self) -> None:
        try:
            client = self._system.direct_redis(0)
            client.config_set("maxmemory", "0")
            client.config_set("min-replicas-to-write", "0")
        except redis.RedisError as error:
            self._say(f"  not taken back: {error}")

    def _mend(self) -> None:
        """All is well from now on."""
        system = self._system
        for cable in system.cables.values():
            cable.breaks(None)
        for origin in system.origins.values():
            origin.fault = None
        for name in (*SERVERS, *PARTS):
            system.signal(name, signal.SIGCONT)
        for name in PARTS:
            system.set_clock(name, 0.0)
        system.disk.free()
        for name in OLDER:
            system.signal(name, signal.SIGKILL)
        self._down.clear()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self._oracle.violations:
            self._revive()
            self._redis_is_well()
            self._give_back()
            time.sleep(0.2)
            if all(system.runs(name) for name in (*SERVERS, *PARTS)):
                break
        self._say("all is mended")

    # ------------------------------------------------------------------ judgement

    def _judge(self) -> None:
        if self._oracle.violations:
            return
        look, started = Look(self._system), time.monotonic()
        # What was told to stop may end only now, and is started again like everything else.
        judged = threading.Event()
        reviver = threading.Thread(target=self._keep_alive, args=(judged,), daemon=True)
        reviver.start()
        try:
            judge_processes(self._system)
            settle(self._system, look)
            if self._oracle.violations:
                self._system.tell_tasks()
            if not self._oracle.violations:
                judge_back(self._system, look)
                judge_contents(self._system, look)
                judge_scan(self._system, look)
                judge_gate(self._system, look)
                judge_contents(self._system, look)
        finally:
            judged.set()
            reviver.join()
        self._result.settled_s = time.monotonic() - started
        self._result.objects = len(look.stored())
        self._result.failures = Counter(look.failures().values())

    def _keep_alive(self, judged: threading.Event) -> None:
        while not judged.wait(0.5):
            self._revive()

    def _say(self, text: str) -> None:
        self._events.append(f"{time.monotonic() - self._began:8.2f}  {text}")
