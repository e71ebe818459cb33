"""Samples of what may grow under load, and of what shows whose growth it is.

Of our processes: memory, descriptors, processor time a turn. Of Redis: memory, and messages that wait. Of the
disk: what is not an object. Latencies come from the traffic. Controls are not ours: a fixed piece of work,
how busy the machine is, and a GET that the store answers alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from machine import own_cpu_s

from lasting.traffic import BUCKET
from support.installation import descendants
from workers.ledger.ledger import Ledger

if TYPE_CHECKING:
    from lasting.traffic import Traffic
    from support.installation import Up
    from workers.settings import BrokerSettings

#: What an operator looks at meanwhile: the more has happened, the same it should take.
LOOKS = {"page": "/", "metrics": "/metrics", "scan": f"/v1/scans/{BUCKET}", "gate": f"/v1/gate/{BUCKET}"}
#: The row that says how fast the machine is at that moment.
FIXED_WORK = "control: a fixed piece of work"
_FIXED_OBJECTS, _FIXED_TRIES = 200_000, 5

#: What was seen, by name: (seconds since the load began, value).
Rows = dict[str, list[tuple[float, float]]]


class Sampler:
    """Reads all of it, into `rows`."""

    def __init__(self, up: Up, broker: BrokerSettings, traffic: Traffic) -> None:
        self._up, self._traffic = up, traffic
        self._ledger = Ledger.open(broker)
        self.fixed_work = FixedWork()
        self.rows: Rows = defaultdict(list)
        self._spent: Counter[str] = Counter()
        self._turns = 0
        self._clock = (0.0, 0.0)

    async def close(self) -> None:
        await self._ledger.close()

    async def begin(self) -> None:
        """From now on it is counted: what was spent before is nobody's."""
        self._spent = self._read(descendants(self._up.process.pid))[2]
        self._turns = sum(self._traffic.seen.answers.values())
        self._clock = _machine_clock()

    async def take(self, at_s: float) -> None:
        def row(name: str, value: float) -> None:
            self.rows[name].append((at_s, value))

        memory, descriptors, spent = self._read(descendants(self._up.process.pid))
        turns = sum(self._traffic.seen.answers.values())
        for part in memory:
            if part not in {"store", "valkey"}:  # what others have written; Redis says itself what it holds
                row(f"memory of {part}", memory[part])
            row(f"{'connections' if part == 'store' else 'descriptors'} of {part}", descriptors[part])
        for part in spent:
            name = (
                f"work of {part} a turn"
                if part not in {"store", "load"}
                else f"control: work of {part} a turn"
            )
            row(name, max(0.0, spent[part] - self._spent[part]) / max(1, turns - self._turns))
        self._spent, self._turns = spent, turns
        info: dict[str, Any] = dict(await self._ledger.redis.info("memory"))
        row("redis memory", float(info["used_memory"]))
        row("disk of data_dir but for store and Valkey", _disk(self._up.data_dir))
        for name, path in LOOKS.items():
            took_s, text = await self._traffic.look(path)
            row(f"latency of a look at the {name}", took_s)
            for lane, depth in re.findall(
                r'^ferryman_queue_depth\{queue="(\w+)"\} (\S+)$', text, re.MULTILINE
            ):
                row(f"messages waiting in {lane}", float(depth))
        took, self._traffic.seen.took = self._traffic.seen.took, defaultdict(list)
        for kind in ("hit", "miss"):
            if took[kind]:
                row(f"latency of a {kind}, median", median(took[kind]))
        row("control: a GET of the store alone", median([await self._traffic.straight() for _ in range(3)]))
        row(FIXED_WORK, await self.fixed_work.took_s())
        (busy, whole), (busy_before, whole_before) = (now := _machine_clock()), self._clock
        row(
            "control: share of the machine that is busy",
            (busy - busy_before) / max(1e-9, whole - whole_before),
        )
        self._clock = now

    def _read(self, processes: dict[int, str]) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """Bytes, descriptors and seconds of processor, by part."""
        memory, descriptors, spent = Counter[str](), Counter[str](), Counter[str]()
        for pid, line in processes.items():
            part = _part(line)
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/statm").read_text().split()
                memory[part] += int(status[1]) * os.sysconf("SC_PAGE_SIZE")
                open_ones = list(Path(f"/proc/{pid}/fd").iterdir())
                if part == "store":  # its files are as many as its objects need
                    open_ones = [one for one in open_ones if str(one.readlink()).startswith("socket:")]
                descriptors[part] += len(open_ones)
                spent[part] += own_cpu_s(pid)
        spent["load"] = time.process_time()
        return memory, descriptors, spent


class FixedWork:
    """A piece of work that is the same each time: small objects all over a few MiB, as in our programs.

    A tight loop would stay in the nearest cache, and not see whom the machine shares the others with.
    """

    def __init__(self) -> None:
        self._objects = [float(number) for number in range(_FIXED_OBJECTS)]
        random.Random(3).shuffle(self._objects)

    async def took_s(self) -> float:
        """Seconds of processor that it takes: more when the machine is slower, whoever uses it."""
        return await asyncio.to_thread(lambda: median(self._once() for _ in range(_FIXED_TRIES)))

    def _once(self) -> float:
        began, total = time.thread_time(), 0.0
        for each in self._objects:
            total += each
        return time.thread_time() - began


def _machine_clock() -> tuple[float, float]:
    """Ticks in which the machine was busy, and all ticks, over all cores (proc(5))."""
    ticks = [float(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _part(line: str) -> str:
    for word, part in (("valkey-server", "valkey"), (" mini ", "store"), ("--queues hot", "worker hot"),
                       ("--queues cold", "worker cold"), (" front ", "front"), ("scan serve", "scans"),
                       (" consume ", "consumer")):  # fmt: skip
        if word in line:
            return part
    return "others"


def _disk(folder: Path) -> float:
    found = 0
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in {"seaweedfs", "store", "valkey"}]
        for name in names:
            with contextlib.suppress(OSError):
                found += (Path(path) / name).stat().st_blocks * 512
    return float(found)
