"""Runs of scans over listings that are made while they are read, each in a process of its own.

So its peak memory is its own; the coordinator, its checkpoints and the Valkey behind them are real. The
listing server (`sides.listing_server`) is a process of its own, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from machine import own_cpu_s
from sides.listing_server import key_of

from scheduler.config.settings import Settings
from scheduler.runtime import open_services
from scheduler.scan.record.scan_index import ACTIVE
from scheduler.scan.service import ScanService, scan_options
from support.valkey import running_valkey
from workers.store.client import ObjectStore
from workers.store.guarantees import StoreGuarantees
from workers.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB_IN_MIB = 1024
#: The script whose commands fresh processes are told.
SCRIPT = Path(__file__).resolve().parent.parent / "scan.py"
#: Times and sizes of one run; keys that were compared a second are `rate`.
Figures = dict[str, float]


class Server(NamedTuple):
    """The listing server."""

    url: str
    pid: int


@contextlib.contextmanager
def listing(keys: int, delay_ms: float = 0.0) -> Iterator[Server]:
    server = SCRIPT.parent / "sides" / "listing_server.py"
    command = [sys.executable, str(server), str(keys), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid)
        finally:
            process.terminate()


def settings_of(order: dict[str, Any]) -> Settings:
    url, _ = order["store"]
    return Settings.model_validate(
        {
            "store": {"endpoint": url, "access_key_id": "a", "secret_access_key": "b" * 8},
            "broker": {"url": order.get("broker", "redis://127.0.0.1:1")},
            "data_dir": order.get("directory", "."),
            "buckets": {"bench": {}},
        }
    )


# ---------------------------------------------------------------------------- in a fresh process


class Cores:
    """How many per cent of this machine's cores are busy from now on, and by whom."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._server = order["store"][1]
        self._own = [os.getpid(), *order.get("others", ())]
        self._began = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        """Seconds of all cores, those that they were idle, of our processes, and of the listing server."""
        # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in them.
        ticks = [int(cell) for cell in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        hertz = os.sysconf("SC_CLK_TCK")
        own = sum(map(own_cpu_s, self._own))
        return sum(ticks) / hertz, (ticks[3] + ticks[4]) / hertz, own, own_cpu_s(self._server)

    def shares(self) -> Figures:
        """Per cent since then; nothing where the clock of the kernel did not move."""
        every, idle, own, server = (now - then for now, then in zip(self._now(), self._began, strict=True))
        if every <= 0:
            return {}
        busy, ours, theirs = (100 * part / every for part in (every - idle, own, server))
        return {"busy": busy, "own": ours, "server": theirs, "rest": max(0.0, busy - ours - theirs)}


async def diff_here(order: dict[str, Any]) -> Figures:
    """One scan in this process; what it took."""
    log.configure(level="error")
    settings = settings_of(order)
    async with open_services(settings) as services:
        services.store.assume("bench", StoreGuarantees(collation="bytes", start_after=True))
        scans = ScanService(services)
        given = {name: order[name] for name in ("inventory", "compare", "shards") if name in order}
        given |= {"bucket": "bench"}
        await scans.start("diff", scan_options(settings, "diff", given))
        began, cpu, cores = time.time(), time.process_time(), Cores(order)
        coordinating = asyncio.create_task(scans.coordinate("diff"))
        read_s = cut_s = None
        while True:
            await asyncio.wait([coordinating], timeout=0.1)
            state = await scans.states.get("diff")
            assert state is not None
            if read_s is None and state.inventory_complete:
                read_s = time.time() - began
            if cut_s is None and state.shards:
                cut_s = time.time() - began
            if state.phase not in ACTIVE:
                break
        # To the end that its record has: then the process also stops working off shards.
        seconds, shares = state.finished_at - began, cores.shares()
        await coordinating
        report = await scans.report(state)
    total = report["total"]
    if report["phase"] != "done" or (total["found"], total["present"]) != (order["keys"], order["keys"]):
        raise SystemExit(f"the scan went wrong: {report}")
    found = measured(order["keys"], seconds, cpu) | {"read_s": read_s or 0.0, "cut_s": cut_s or 0.0}
    return found | shares


async def serve_here(order: dict[str, Any]) -> Figures:
    """Runs shards of scans for as long as it lives."""
    log.configure(level="error")
    async with open_services(settings_of(order)) as services:
        services.store.assume("bench", StoreGuarantees(collation="bytes", start_after=True))
        print("serving", flush=True)
        await ScanService(services).serve(asyncio.Event(), only_shards=True)
    return {}


async def list_here(order: dict[str, Any]) -> Figures:
    """The listing alone, in so many ranges at once in this process: what a scan cannot pass."""
    keys, ranges = order["keys"], order["ranges"]
    settings = settings_of(order)
    cuts = [keys * at // ranges for at in range(ranges + 1)]
    began, cpu = time.perf_counter(), time.process_time()
    async with ObjectStore(settings.store, settings.limits) as store:

        async def one(begin: int, end: int) -> int:
            after, count = key_of(begin - 1) if begin else None, 0
            async for page in store.list("bench", start_after=after):
                count += len(page.objects)
                if count >= end - begin:
                    break
            return min(count, end - begin)

        found = sum(await asyncio.gather(*(one(*pair) for pair in pairwise(cuts))))
    if found != keys:
        raise SystemExit(f"{found} of {keys} keys were listed")
    return measured(keys, time.perf_counter() - began, cpu)


def measured(keys: int, seconds: float, cpu_began: float) -> Figures:
    return {
        "rate": keys / seconds,
        "seconds": seconds,
        "cpu_us": (time.process_time() - cpu_began) / keys * 1e6,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_IN_MIB,
    }


# ---------------------------------------------------------------------------- from outside


def in_fresh_process(what: str, *, beside: int = 0, **order: Any) -> Figures:
    """A run in a process of its own, with a Valkey of its own, and so many more that run shards."""
    script = str(SCRIPT)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, running_valkey() as broker:
        order |= {"directory": directory, "broker": broker}
        told = json.dumps(order)
        others = [
            subprocess.Popen([sys.executable, script, "serve-here", told], stdout=subprocess.PIPE)
            for _ in range(beside)
        ]
        try:
            for other in others:
                assert other.stdout is not None
                other.stdout.readline()
            told = json.dumps(order | {"others": [other.pid for other in others]})
            output = subprocess.run([sys.executable, script, what, told], check=True, stdout=subprocess.PIPE)
        finally:
            for other in others:
                other.terminate()
        usages = [os.wait4(other.pid, 0)[2] for other in others]
    found: Figures = json.loads(output.stdout.splitlines()[-1])
    # Their start is in it; it is a second or so.
    found["cpu_us"] += sum(one.ru_utime + one.ru_stime for one in usages) / order["keys"] * 1e6
    found["rss"] = max(found["rss"], *(one.ru_maxrss / KIB_IN_MIB for one in usages), 0.0)
    return found


def listing_alone(store: Server, keys: int, processes: int) -> Figures:
    """The bare listing of all keys by so many processes at once: what two of them get out of this machine."""
    script, order = str(SCRIPT), {"keys": keys, "ranges": 8, "store": store}
    command = [sys.executable, script, "list-here", json.dumps(order)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    found = [json.loads(one.communicate()[0]) for one in running]
    if any(one.returncode for one in running):
        raise SystemExit("a listing went wrong")
    return {
        "rate": sum(one["rate"] for one in found),
        "seconds": max(one["seconds"] for one in found),
        "cpu_us": sum(one["cpu_us"] for one in found) / processes,
        "rss": max(one["rss"] for one in found),
    }
