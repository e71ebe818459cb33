"""Scans: comparing millions of keys, and moving many small objects end to end; beside rclone, in one run.

    .venv/bin/python bench/scan.py diff [--keys 1000000 5000000] [--no-peers]
    .venv/bin/python bench/scan.py move [--count 20000] [--size 1024] [--no-peers]

`diff` lists a synthetic bucket (a process of its own that makes the pages) and compares it with a manifest of
the same keys: the real coordinator, its checkpoints in a real Valkey, each run in a fresh process whose peak
memory is its own. `move` moves objects that bench/move.py's bare queue moves too: origin nginx, store
SeaweedFS, one worker process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from listing_server import key_of, size_of
from machine import cpu_s, describe, peak_rss_mib, static_origin, table
from move import ferryman, make_files

from scheduler.config.settings import Settings
from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.startup import make_ready
from scheduler.machine.supervise import Supervisor
from scheduler.runtime import open_services
from scheduler.scan.service import ScanService, scan_options
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.plan import Lane
from workers.store.guarantees import StoreGuarantees
from workers.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024


# ---------------------------------------------------------------------------- diff


def write_manifest(path: Path, keys: int, *, shuffled: bool) -> None:
    numbers: Any = range(keys)
    if shuffled:
        numbers = list(numbers)
        random.Random(1).shuffle(numbers)
    with path.open("w") as file:
        file.write("key,size\n")
        for at in range(0, keys, 100_000):
            file.writelines(f"{key_of(n)},{size_of(n)}\n" for n in numbers[at : at + 100_000])


@contextlib.contextmanager
def listing(keys: int) -> Iterator[str]:
    server = Path(__file__).with_name("listing_server.py")
    with subprocess.Popen([sys.executable, str(server), str(keys)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def diff_here(order: dict[str, Any]) -> dict[str, float]:
    """One scan in this process; what it took."""
    log.configure(level="error")
    settings = Settings.model_validate(
        {
            "store": {"endpoint": order["store"], "access_key_id": "a", "secret_access_key": "b" * 8},
            "broker": {"url": order["broker"]},
            "data_dir": order["directory"],
            "buckets": {"bench": {}},
        }
    )
    async with open_services(settings) as services:
        services.store.assume("bench", StoreGuarantees(collation="bytes"))
        scans = ScanService(services)
        given = {"bucket": "bench", "inventory": order["inventory"], "compare": order["compare"]}
        await scans.start("diff", scan_options(settings, "diff", given))
        began, cpu = time.perf_counter(), time.process_time()
        coordinating = asyncio.create_task(scans.coordinate("diff"))
        read_s = None
        while not coordinating.done():
            await asyncio.wait([coordinating], timeout=0.1)
            state = await scans.states.get("diff")
            if read_s is None and state is not None and state.inventory_complete:
                read_s = time.perf_counter() - began
        seconds = time.perf_counter() - began
        state = await scans.states.get("diff")
        assert state is not None
        report = await scans.report(state)
    if report["phase"] != "done" or report["total"]["present"] != order["keys"]:
        raise SystemExit(f"the scan went wrong: {report}")
    return {
        "seconds": seconds,
        "read_s": read_s or 0.0,
        "cpu_s": time.process_time() - cpu,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB,
    }


def diff_row(what: str, keys: int, **order: Any) -> list[str]:
    """A run in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, running_valkey() as broker:
        order |= {"keys": keys, "directory": directory, "broker": broker}
        command = [sys.executable, __file__, "diff-here", json.dumps(order)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = json.loads(output.splitlines()[-1])
    rate = keys / found["seconds"]
    compare = keys / (found["seconds"] - found["read_s"])
    return [
        what, f"{keys:,}", f"{rate:,.0f}", f"{keys / found['read_s']:,.0f}", f"{compare:,.0f}",
        f"{found['cpu_s'] / keys * 1e6:.1f}", f"{found['rss']:.0f}",
    ]  # fmt: skip


def rclone_check(binary: str, endpoint: str, keys: int, root: Path) -> list[str]:
    """`rclone check` of two buckets that hold the same: two listings, as `bucket with bucket`."""
    config = root / "rclone.conf"
    config.write_text(
        f"[s]\ntype = s3\nprovider = Other\naccess_key_id = a\nsecret_access_key = b\nendpoint = {endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nlist_version = 2\nlist_url_encode = true\n"
    )
    command = [
        binary, "--config", str(config), "check", "s:one", "s:two", "--size-only", "--fast-list",
        "--log-level", "ERROR",
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"rclone check ended with {status}")
    cpu = usage.ru_utime + usage.ru_stime
    return ["rclone check --size-only --fast-list", f"{keys:,}", f"{keys / seconds:,.0f}", "", "",
            f"{cpu / keys * 1e6:.1f}", f"{usage.ru_maxrss / MIB:.0f}"]  # fmt: skip


def diff(arguments: argparse.Namespace) -> None:
    rows = [["what", "keys", "keys/s", "reading", "comparing", "CPU µs/key", "peak RSS MiB"]]
    binary = find_rclone()
    for keys in arguments.keys:
        with tempfile.TemporaryDirectory(prefix="bench-") as name, listing(keys) as store:
            path = Path(name) / "manifest.csv"
            inventory = {"manifest": str(path)}
            write_manifest(path, keys, shuffled=False)
            rows.append(
                diff_row("manifest in order", keys, store=store, inventory=inventory, compare=["size"])
            )
            if keys == min(arguments.keys):
                write_manifest(path, keys, shuffled=True)
                rows.append(
                    diff_row("manifest shuffled", keys, store=store, inventory=inventory, compare=["size"])
                )
                two = {"bucket": "other"}
                rows.append(
                    diff_row("bucket with bucket", keys, store=store, inventory=two, compare=["size"])
                )
                if binary is not None and not arguments.no_peers:
                    rows.append(rclone_check(binary, store, keys, Path(name)))
    print(table(rows))


# ---------------------------------------------------------------------------- move


async def scan_moves(
    settings: Settings, bucket: str, keys: list[str], root: Path, warm: list[str]
) -> dict[str, float]:
    """A scan of the keys from its request to its end, with one worker process; the clock starts warm."""
    log.configure(level="warning")
    manifest = root / "manifest.txt"
    async with open_services(settings) as services, Supervisor() as supervisor:
        await make_ready(services, who="bench")
        size = LaneSize(processes=1, threads=None)
        pids = [await supervisor.start(child) for child in worker_children(settings, [Lane.COLD], size)]
        scans = ScanService(services)
        for name, some in (("warm", warm), ("bench", keys)):
            manifest.write_text("".join(f"{key}\n" for key in some))
            given = {"bucket": bucket, "inventory": {"manifest": str(manifest)}}
            cpu = cpu_s(pids) + time.process_time()
            began = time.perf_counter()
            await scans.start(name, scan_options(settings, name, given))
            await scans.coordinate(name)
            seconds = time.perf_counter() - began
            used = cpu_s(pids) + time.process_time() - cpu
        state = await scans.states.get("bench")
        assert state is not None
        total = (await scans.report(state))["total"]
        if total["stored"] != len(keys):
            raise SystemExit(f"the scan went wrong: {total}")
        return {"rate": len(keys) / seconds, "cpu_us": used / len(keys) * 1e6, "rss": peak_rss_mib(pids)}


def move(arguments: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running_valkey() as url,
        running_seaweed() as weed,
    ):
        root = Path(name)
        www = root / "www"
        www.mkdir()
        warm = make_files(www, 4, 16 * 1024, prefix="warm/")
        keys = make_files(www, arguments.count, arguments.size)
        with static_origin(www, root) as origin:
            settings = Settings.model_validate(
                {
                    "store": {
                        "endpoint": weed.endpoint,
                        "access_key_id": weed.access_key_id,
                        "secret_access_key": weed.secret_access_key,
                    },
                    "broker": {"url": url},
                    "data_dir": str(root / "data"),
                    "buckets": {"bench-scan": {"rules": [{"origins": [origin]}]}},
                }
            )
            rows = [["what", "objects/s", "CPU µs/object", "peak RSS MiB"]]

            def add(what: str, found: dict[str, float]) -> float:
                rows.append([what, f"{found['rate']:.0f}", f"{found['cpu_us']:.0f}", f"{found['rss']:.0f}"])
                return found["rate"]

            first = asyncio.run(
                ferryman(settings, "bench-one", keys, origin, processes=1, part=arguments.count, warm=warm)
            )
            pure = [add("queue and worker alone", first)]
            scanned = add(
                "scan, end to end", asyncio.run(scan_moves(settings, "bench-scan", keys, root, warm))
            )
            again = asyncio.run(
                ferryman(settings, "bench-two", keys, origin, processes=1, part=arguments.count, warm=warm)
            )
            pure.append(add("queue and worker alone, again", again))
            rows.append(["scan / mean of the others", f"{scanned / (sum(pure) / 2):.2f}", "", ""])
            binary = find_rclone()
            if binary is not None and not arguments.no_peers:
                from move import rclone

                theirs = add(
                    "rclone copy, 32 transfers",
                    rclone(binary, settings, "bench-theirs", keys, origin, root, warm),
                )
                rows.append(["scan / rclone", f"{scanned / theirs:.2f}", "", ""])
    print(f"{arguments.count} objects of {arguments.size} bytes")
    print(table(rows))


def find_rclone() -> str | None:
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-peers", action="store_true", dest="alone", help="of diff and move")
    what = parser.add_subparsers(dest="what", help="without: diff, then move")
    one = what.add_parser("diff")
    one.add_argument("--keys", type=int, nargs="+", default=[1_000_000, 5_000_000])
    one.add_argument("--no-peers", action="store_true")
    two = what.add_parser("move")
    two.add_argument("--count", type=int, default=20_000)
    two.add_argument("--size", type=int, default=1024)
    two.add_argument("--no-peers", action="store_true")
    here = what.add_parser("diff-here")
    here.add_argument("order")
    arguments = parser.parse_args()
    uvloop.install()
    log.configure(level="warning")
    if arguments.what == "diff-here":
        print(json.dumps(asyncio.run(diff_here(json.loads(arguments.order)))))
        return
    print(describe())
    if arguments.what is None:
        further = ["--no-peers"] if arguments.alone else []
        diff(one.parse_args(further))
        move(two.parse_args(further))
        return
    (diff if arguments.what == "diff" else move)(arguments)


if __name__ == "__main__":
    main()
