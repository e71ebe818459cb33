"""`bench/scan.py diff` and `latency`: comparing listings that are made while they are read.

Each run of Ferryman is a fresh process, so that its peak memory is its own; the coordinator, its checkpoints
and the Valkey behind them are real. The listing server (`sides.listing_server`) is a process of its own.
Beside it, in the same run and from the same server, `rclone check` and `rclone size`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from figures import note
from machine import own_cpu_s, table
from sides.listing_server import key_of, size_of
from sides.peers import peer

from scheduler.config.settings import Settings
from scheduler.runtime import open_services
from scheduler.scan.service import ScanService, scan_options
from support.valkey import running_valkey
from workers.store.client import ObjectStore
from workers.store.guarantees import StoreGuarantees
from workers.telemetry import log

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

KIB_IN_MIB = 1024
#: Times and sizes of one run; keys that were compared a second are `rate`.
Figures = dict[str, float]


def write_manifest(path: Path, keys: int, *, shuffled: bool) -> None:
    numbers: Any = range(keys)
    if shuffled:
        numbers = list(numbers)
        random.Random(1).shuffle(numbers)
    with path.open("w") as file:
        file.write("key,size\n")
        for at in range(0, keys, 100_000):
            file.writelines(f"{key_of(n)},{size_of(n)}\n" for n in numbers[at : at + 100_000])


class Server(NamedTuple):
    """The listing server."""

    url: str
    pid: int


@contextlib.contextmanager
def listing(keys: int, delay_ms: float = 0.0) -> Iterator[Server]:
    server = Path(__file__).with_name("sides") / "listing_server.py"
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
        began, cpu, cores = time.perf_counter(), time.process_time(), Cores(order)
        coordinating = asyncio.create_task(scans.coordinate("diff"))
        read_s = cut_s = None
        while not coordinating.done():
            await asyncio.wait([coordinating], timeout=0.1)
            state = await scans.states.get("diff")
            if read_s is None and state is not None and state.inventory_complete:
                read_s = time.perf_counter() - began
            if cut_s is None and state is not None and state.shards:
                cut_s = time.perf_counter() - began
        shares = cores.shares()
        seconds = time.perf_counter() - began
        state = await scans.states.get("diff")
        assert state is not None
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
    script = str(Path(__file__).with_name("scan.py"))
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
    script, order = str(Path(__file__).with_name("scan.py")), {"keys": keys, "ranges": 8, "store": store}
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


def rclone(binary: str, server: Server, keys: int, root: Path, *command: str) -> Figures:
    """A command of rclone on the same listings."""
    endpoint = server.url
    config = root / "rclone.conf"
    config.write_text(
        f"[s]\ntype = s3\nprovider = Other\naccess_key_id = a\nsecret_access_key = b\nendpoint = {endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nlist_version = 2\nlist_url_encode = true\n"
    )
    whole = [binary, "--config", str(config), *command, "--fast-list", "--log-level", "ERROR"]
    began = time.perf_counter()
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"rclone {command[0]} ended with {status}")
    cpu_us = (usage.ru_utime + usage.ru_stime) / keys * 1e6
    return {
        "rate": keys / seconds, "seconds": seconds, "cpu_us": cpu_us, "rss": usage.ru_maxrss / KIB_IN_MIB,
    }  # fmt: skip


#: Keys below which shards have more to do with themselves than with keys.
WORTH_CUTTING = 100_000
CHECK = ("check", "s:one", "s:two", "--size-only")
SIZE = ("size", "s:one")


def rounds_of(number: int, runs: dict[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Each run so many times; who is first changes with the round."""
    names = list(runs)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for at in range(number):
        for name in names[at % len(names) :] + names[: at % len(names)]:
            found[name].append(runs[name]())
    return found


def spread(rounds: list[Figures], name: str, digits: int = 0) -> str:
    values = [one[name] for one in rounds if one.get(name)]
    if not values:
        return ""
    middle = f"{median(values):,.{digits}f}"
    return (
        middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    )


def ratio(found: dict[str, list[Figures]], one: str, other: str) -> float:
    """Median over the rounds of one rate as a multiple of another."""
    return median(a["rate"] / b["rate"] for a, b in zip(found[one], found[other], strict=True))


def lines_of(found: dict[str, list[Figures]], keys: int) -> list[list[str]]:
    return [
        [name, f"{keys:,}", spread(rounds, "rate"), spread(rounds, "read_s", 1), spread(rounds, "seconds", 1),
         spread(rounds, "cpu_us", 1), spread(rounds, "rss")]
        for name, rounds in found.items()
    ]  # fmt: skip


#: What is said of a run's cores, and with how many digits.
SHARES = (("cut_s", 1), ("busy", 0), ("own", 0), ("server", 0), ("rest", 0))
HEAD = ["what", "keys", "keys/s", "reading, s", "all, s", "CPU µs/key", "peak RSS MiB"]


def note_wanted(found: dict[str, list[Figures]]) -> None:
    """The rows of wanted.py, round by round."""
    for one in found["manifest in order"]:
        note("scan manifest", keys_per_s=one["rate"], cpu_us=one["cpu_us"])
    theirs = found.get("rclone check --size-only --fast-list", [])
    for at, one in enumerate(found["bucket with bucket"]):
        note("scan buckets", keys_per_s=one["rate"], cpu_us=one["cpu_us"])
        if theirs:
            note("scan buckets", of_rclone=one["rate"] / theirs[at]["rate"])


def diff(arguments: argparse.Namespace) -> None:
    """Without latency: what a key costs."""
    rows = [HEAD]
    binary = None if arguments.no_peers else peer("rclone")
    for keys in arguments.keys:
        with tempfile.TemporaryDirectory(prefix="bench-") as name, listing(keys) as store:
            root = Path(name)
            order = {"keys": keys, "store": store, "compare": ["size"]}

            def manifest(
                which: str, order: dict[str, Any] = order, root: Path = root
            ) -> Callable[[], Figures]:
                inventory = {"manifest": str(root / which)}
                return lambda: in_fresh_process("diff-here", inventory=inventory, **order)

            write_manifest(root / "ordered.csv", keys, shuffled=False)
            runs = {"manifest in order": manifest("ordered.csv")}
            if keys == min(arguments.keys):
                write_manifest(root / "shuffled.csv", keys, shuffled=True)
                runs["manifest shuffled"] = manifest("shuffled.csv")
                runs["bucket with bucket"] = lambda order=order: in_fresh_process(
                    "diff-here", inventory={"bucket": "other"}, **order
                )
                for number in (1, 2) if keys >= WORTH_CUTTING else ():
                    runs[f"bucket with bucket, 8 shards, {number} process{'es' * (number - 1)}"] = (
                        lambda order=order, number=number: in_fresh_process(
                            "diff-here", beside=number - 1, shards=8, inventory={"bucket": "other"}, **order
                        )
                    )
                for number in (1, 2) if keys >= WORTH_CUTTING else ():
                    runs[f"listing alone, {number} process{'es' * (number - 1)}"] = (
                        lambda store=store, keys=keys, number=number: listing_alone(store, keys, number)
                    )
                if binary is not None:
                    runs["rclone check --size-only --fast-list"] = lambda store=store, keys=keys, root=root: (
                        rclone(binary, store, keys, root, *CHECK)
                    )
            found = rounds_of(arguments.rounds, runs)
            rows += lines_of(found, keys)
            if "manifest shuffled" in found and keys >= WORTH_CUTTING:
                one, two = (name for name in found if "8 shards" in name)
                rows.append(["two processes / one", "", f"{ratio(found, two, one):.2f}", "", "", "", ""])
                one, two = (name for name in found if name.startswith("listing alone"))
                what = "two processes / one, listing alone"
                rows.append([what, "", f"{ratio(found, two, one):.2f}", "", "", "", ""])
            if keys == min(arguments.keys):
                note_wanted(found)
            if "rclone check --size-only --fast-list" in found:
                times = ratio(found, "bucket with bucket", "rclone check --size-only --fast-list")
                rows.append(["bucket with bucket / rclone check", "", f"{times:.2f}", "", "", "", ""])
    print(table(rows))


def latency(arguments: argparse.Namespace) -> None:
    """With a page's latency as real stores have it, on both sides."""
    keys, delay = arguments.keys, arguments.delay_ms
    binary = None if arguments.no_peers else peer("rclone")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, listing(keys, delay) as store:
        order = {"keys": keys, "store": store, "compare": ["size"]}
        two: dict[str, Any] = {"inventory": {"bucket": "other"}, **order}
        runs: dict[str, Callable[[], Figures]] = {
            "listing alone, 1 range": lambda: in_fresh_process("list-here", ranges=1, **order),
            f"listing alone, {arguments.shards} ranges": lambda: in_fresh_process(
                "list-here", ranges=arguments.shards, **order
            ),
            "bucket with bucket, 1 shard": lambda: in_fresh_process("diff-here", shards=1, **two),
            f"{arguments.shards} shards, 1 process": lambda: in_fresh_process(
                "diff-here", shards=arguments.shards, **two
            ),
            f"{arguments.shards} shards, 2 processes": lambda: in_fresh_process(
                "diff-here", beside=1, shards=arguments.shards, **two
            ),
        }
        if binary is not None:
            runs["rclone check --size-only --fast-list"] = lambda: rclone(
                binary, store, keys, Path(name), *CHECK
            )
            runs["rclone size --fast-list"] = lambda: rclone(binary, store, keys, Path(name), *SIZE)
        found = rounds_of(arguments.rounds, runs)
    rows = [HEAD, *lines_of(found, keys)]
    alone, *cut = (name for name in found if "shard" in name)
    rows += [[f"{name} / 1 shard", "", f"{ratio(found, name, alone):.1f}", "", "", "", ""] for name in cut]
    print(f"a page of 1,000 keys takes {delay:g} ms")
    print(table(rows))
    busy = [["per cent of all cores", "cutting, s", "busy", "own processes", "listing server", "rest"]]
    busy += [
        [name, *(spread(found[name], what, digits) for what, digits in SHARES)] for name in (alone, *cut)
    ]
    print(table(busy))
