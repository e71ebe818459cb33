"""Scans: comparing millions of keys, and moving many small objects end to end; beside rclone, in one run.

    .venv/bin/python bench/scan.py diff [--keys 1000000 10000000] [--rounds 1] [--no-peers]
    .venv/bin/python bench/scan.py fleet [--keys 4000000] [--rounds 1]
    .venv/bin/python bench/scan.py latency [--keys 200000] [--delay-ms 80] [--shards 32] [--rounds 1]
    .venv/bin/python bench/scan.py history [--scans 100000] [--rounds 20]
    .venv/bin/python bench/scan.py move [--count 20000] [--size 1024] [--no-peers]

`diff` lists a synthetic bucket (a process of its own that makes the pages) and compares it with a manifest of
the same keys, or with itself; `fleet` does so in one process and in two, `latency` with pages that take as
long as those of real stores.
`history` asks for scans where very many were before. `move` moves objects that bench/move.py's bare queue
moves too: origin nginx, store SeaweedFS, one worker process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from machine import cpu_s, describe, peak_rss_mib, static_origin, table
from move import bench_settings, ferryman, make_files
from scans.diff import diff
from scans.here import diff_here, list_here, serve_here
from scans.history import history
from scans.shards import fleet, latency
from sides.peers import peer, rclone

from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.startup import make_ready
from scheduler.machine.supervise import Supervisor
from scheduler.runtime import open_services
from scheduler.scan.service import ScanService, scan_options
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.plan import Lane
from workers.telemetry import log

if TYPE_CHECKING:
    from scheduler.config.settings import Settings

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
            settings = bench_settings(root, url, weed, {"bench-scan": {"rules": [{"origins": [origin]}]}})
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
            binary = peer("rclone")
            if binary is not None and not arguments.no_peers:
                theirs = add(
                    "rclone copy, 32 transfers",
                    rclone(binary, settings, "bench-theirs", keys, origin, root, warm),
                )
                rows.append(["scan / rclone", f"{scanned / theirs:.2f}", "", ""])
    print(f"{arguments.count} objects of {arguments.size} bytes")
    print(table(rows))


#: What a fresh process is asked to do.
HERE = {"diff-here": diff_here, "list-here": list_here, "serve-here": serve_here}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-peers", action="store_true", dest="alone", help="of all")
    what = parser.add_subparsers(dest="what", help="without: diff, fleet, latency, history, then move")
    one = what.add_parser("diff")
    one.add_argument("--keys", type=int, nargs="+", default=[1_000_000, 10_000_000])
    one.add_argument("--rounds", type=int, default=1)
    one.add_argument("--no-peers", action="store_true")
    three = what.add_parser("latency")
    three.add_argument("--keys", type=int, default=200_000)
    three.add_argument("--delay-ms", type=float, default=80.0)
    three.add_argument("--shards", type=int, default=32)
    three.add_argument("--rounds", type=int, default=1)
    three.add_argument("--no-peers", action="store_true")
    five = what.add_parser("fleet")
    five.add_argument("--keys", type=int, default=4_000_000)
    five.add_argument("--rounds", type=int, default=1)
    five.add_argument("--no-peers", action="store_true")
    four = what.add_parser("history")
    four.add_argument("--scans", type=int, default=100_000)
    four.add_argument("--rounds", type=int, default=20)
    two = what.add_parser("move")
    two.add_argument("--count", type=int, default=20_000)
    two.add_argument("--size", type=int, default=1024)
    two.add_argument("--no-peers", action="store_true")
    for name in HERE:
        what.add_parser(name).add_argument("order")
    arguments = parser.parse_args()
    uvloop.install()
    log.configure(level="warning")
    if arguments.what in HERE:
        print(json.dumps(asyncio.run(HERE[arguments.what](json.loads(arguments.order)))))
        return
    print(describe())
    if arguments.what is None:
        further = ["--no-peers"] if arguments.alone else []
        diff(one.parse_args(further))
        fleet(five.parse_args(further))
        latency(three.parse_args(further))
        history(four.parse_args([]))
        move(two.parse_args(further))
        return
    {"diff": diff, "fleet": fleet, "latency": latency, "history": history, "move": move}[arguments.what](
        arguments
    )


if __name__ == "__main__":
    main()
