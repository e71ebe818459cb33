"""Moving objects from an HTTP origin into the store: Ferryman's workers beside rclone, in one run.

    .venv/bin/python bench/move.py [--count 5000] [--size 16384] [--rounds 1] [--processes 1] [--no-peers]

Origin: nginx. Store: SeaweedFS. Queue: Valkey; new ones for each round, and who is first changes with the
round. CPU is that of the client processes alone (Ferryman: all its processes, the dispatcher included;
start-up excluded on both sides by measuring rclone on one object too). The floor is a bare worker over the
same libraries: keys by dramatiq, a hundred in a message, GET by plain aiohttp, signed create-only PUT of the
same object by the store's client; no claim, no record, nothing followed up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from figures import note, spread
from machine import cpu_s, describe, peak_rss_mib, static_origin, table
from sides.floors import bare_moves, bare_puts
from sides.peers import juicefs, peer, rclone

from scheduler.config.settings import Settings
from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.supervise import Supervisor
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.ledger.ledger import Ledger
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.telemetry import log

if TYPE_CHECKING:
    from support.store.seaweed import Seaweed

BATCH = 100
#: From here on an object is a large one: its cost is told by the megabyte.
LARGE_BYTES = 1 << 20


def make_files(www: Path, count: int, size: int, prefix: str = "") -> list[str]:
    keys = []
    block = os.urandom(size)
    for number in range(count):
        key = f"{prefix}{number % 50:02d}/{number:07d}.bin"
        path = www / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if size > 1 << 20:
            path.write_bytes(block[number:] + block[:number])
        else:
            path.write_bytes(number.to_bytes(8) + block[8:])
        keys.append(key)
    return keys


def bench_settings(root: Path, url: str, weed: Seaweed, buckets: dict[str, Any] | None = None) -> Settings:
    """Settings over the servers of one round."""
    return Settings.model_validate(
        {
            "store": {
                "endpoint": weed.endpoint,
                "access_key_id": weed.access_key_id,
                "secret_access_key": weed.secret_access_key,
            },
            "broker": {"url": url},
            "data_dir": str(root / "data"),
            "buckets": buckets or {},
        }
    )


async def make_bucket(settings: Settings, bucket: str) -> None:
    async with ObjectStore(settings.store, settings.limits) as store:
        await store.ensure_bucket(bucket)


async def ferryman(
    settings: Settings,
    bucket: str,
    keys: list[str],
    origin: str,
    *,
    processes: int,
    part: int,
    warm: list[str],
) -> dict[str, Any]:
    """Move the keys through queue and workers: rate, CPU µs an object, peak RSS, and both of each part."""
    host = origin.removeprefix("http://")
    plan = FetchPlan(
        bucket=bucket,
        rule="bench",
        groups=(OriginGroup(primary=Origin(host=host, scheme="http")),),
        trusted_hosts=True,
    )
    await make_bucket(settings, bucket)
    ledger = Ledger.open(settings.broker)
    queue = JobQueue.open(settings.broker)
    async with Supervisor() as supervisor:
        size = LaneSize(processes=processes, threads=None)
        pids = [await supervisor.start(child) for child in worker_children(settings, [Lane.COLD], size)]
        # Warm: the workers have imported, connected and probed the store before the clock starts.
        await wave(ledger, queue, plan, warm, "warm", batch_size=1)
        cpu = cpu_s(pids)
        own = time.process_time()
        began = time.perf_counter()
        rates = []
        for at in range(0, len(keys), part):
            here, then = time.perf_counter(), cpu_s(pids)
            await wave(ledger, queue, plan, keys[at : at + part], f"run{at}")
            count = min(part, len(keys) - at)
            rates.append((count / (time.perf_counter() - here), (cpu_s(pids) - then) / count * 1e6))
        seconds = time.perf_counter() - began
        used = cpu_s(pids) - cpu + time.process_time() - own
        peak = peak_rss_mib(pids)
    await queue.close()
    await ledger.close()
    return {
        "rate": len(keys) / seconds,
        "cpu_us": used / len(keys) * 1e6,
        "rss": peak,
        "seconds": seconds,
        "parts": rates,
    }


async def wave(
    ledger: Ledger, queue: JobQueue, plan: FetchPlan, keys: list[str], name: str, batch_size: int = BATCH
) -> None:
    run = f"{name}-{uuid.uuid4().hex[:8]}"
    batches = [
        Batch(
            plan=plan,
            lane=Lane.COLD,
            scan=run,
            batch=number,
            missing_at=time.time(),
            items=tuple(
                FetchItem(key=key, path=key, position=at)
                for at, key in enumerate(keys[start : start + batch_size])
            ),
        )
        for number, start in enumerate(range(0, len(keys), batch_size))
    ]
    for batch in batches:
        await ledger.outcomes.open_batch(run, batch.batch, size=len(batch.items), group="g")
    await queue.enqueue_many(batches)
    while True:
        totals = (await ledger.outcomes.totals(run)).get("g", {})
        if totals.get("pending", 0) == 0:
            break
        await asyncio.sleep(0.05)
    if totals.get("stored", 0) != len(keys):
        raise SystemExit(f"{name}: not everything was stored: {totals}")


def along(parts: list[tuple[float, float]], count: int, part: int) -> str:
    """Rate and cost of each stretch, and the slope of the cost by least squares."""
    rows = [["objects", "objects/s", "CPU µs/object (workers)"]]
    for number, (speed, used) in enumerate(parts):
        last = min(count, (number + 1) * part)
        rows.append([f"{number * part + 1}-{last}", f"{speed:.0f}", f"{used:.0f}"])
    slope, _ = statistics.linear_regression(range(len(parts)), [used for _, used in parts])
    mean = statistics.mean(used for _, used in parts)
    grown = slope * (len(parts) - 1) / mean * 100
    return f"{table(rows)}\n\nCost from the first stretch to the last: {grown:+.1f} % (slope of all)"


def one_round(arguments: argparse.Namespace, number: int) -> dict[str, dict[str, Any]]:
    """Every side once, over new servers: side -> rate, cpu_us, rss, and for Ferryman the stretches."""
    binary, sync = peer("rclone"), peer("juicefs")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running_valkey() as url,
        running_seaweed() as weed,
    ):
        root = Path(name)
        www = root / "www"
        www.mkdir()
        keys = make_files(www, arguments.count, arguments.size)
        warm = make_files(www, arguments.processes * 4, 16 * 1024, prefix="warm/")
        settings = bench_settings(root, url, weed)
        found: dict[str, dict[str, Any]] = {}
        with static_origin(www, root) as origin:
            if arguments.size <= LARGE_BYTES:
                rate, cpu = asyncio.run(
                    bare_puts(settings, "bench-put", min(arguments.count, 5000), arguments.size)
                )
                found["bare signed PUTs"] = {"rate": rate, "cpu_us": cpu}

            def ours() -> None:
                found["ferryman"] = asyncio.run(
                    ferryman(
                        settings,
                        "bench-ours",
                        keys,
                        origin,
                        processes=arguments.processes,
                        part=arguments.part,
                        warm=warm,
                    )
                )

            def theirs() -> None:
                if binary is not None and not arguments.no_peers:
                    found["rclone"] = rclone(binary, settings, "bench-theirs", keys, origin, root, warm)

            def floor() -> None:
                if not arguments.no_peers:
                    found["floor"] = asyncio.run(
                        bare_moves(settings, "bench-floor", keys, origin, warm, BATCH)
                    )

            sides = [ours, theirs, floor]
            for side in sides if number % 2 == 0 else reversed(sides):
                side()
            if sync is not None and arguments.juicefs:
                asyncio.run(make_bucket(settings, "bench-juicefs"))
                found["juicefs"] = juicefs(sync, settings, "bench-juicefs", www, arguments.count)
    return found


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """One round's sides over rclone's."""
    if "rclone" not in found:
        return {}
    theirs = found["rclone"]
    return {
        f"{prefix}{name}_ratio": found[side][value] / theirs[value]
        for side, prefix in (("ferryman", ""), ("floor", "floor_"))
        for value, name in (("rate", "rate"), ("cpu_us", "cpu"), ("rss", "rss"))
        if side in found and value in found[side]
    }


SIDES = {
    "bare signed PUTs": "bare signed PUTs",
    "floor": "floor: GET and PUT by dramatiq",
    "ferryman": "ferryman",
    "rclone": "rclone copy, 32 transfers",
    "juicefs": "juicefs sync, from disk",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--part", type=int, default=1_000_000, help="objects of a stretch whose rate is printed"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--juicefs", action="store_true", help="juicefs sync as well, from the local disk")
    arguments = parser.parse_args()
    uvloop.install()
    log.configure(level="warning")
    large = arguments.size > LARGE_BYTES
    rounds = []
    for number in range(arguments.rounds):
        found = one_round(arguments, number)
        rounds.append(found)
        sides = {f"{side}_{name}": found[side][name] for side in found for name in ("rate", "cpu_us")}
        note(
            "large" if large else "move",
            **{name.replace(" ", "_"): value for name, value in sides.items()},
            **ratios(found),
        )
    print(f"{arguments.count} objects of {arguments.size} bytes, {arguments.rounds} round(s); {describe()}\n")
    unit, scale = ("CPU ms/MB", 1e3 / arguments.size) if large else ("CPU µs/object", 1.0)
    rows = [["what", "objects/s", "MB/s", unit, "peak RSS MiB"]]
    for side, what in SIDES.items():
        readings = [one[side] for one in rounds if side in one]
        if readings:
            rates = [one["rate"] for one in readings]
            rows.append([
                what,
                spread(rates, 2 if large else 0),
                spread([rate * arguments.size / 1e6 for rate in rates], 1),
                spread([one["cpu_us"] * scale for one in readings], 2 if large else 0),
                spread([one["rss"] for one in readings], 0) if "rss" in readings[0] else "",
            ])  # fmt: skip
    told = [ratios(one) for one in rounds if ratios(one)]
    for prefix, what in (("", "ferryman / rclone"), ("floor_", "floor / rclone")):
        if told:
            columns = [
                spread([one[f"{prefix}{name}_ratio"] for one in told])
                if f"{prefix}{name}_ratio" in told[0]
                else ""
                for name in ("rate", "cpu", "rss")
            ]
            rows.append([what, columns[0], "", columns[1], columns[2]])
    print(table(rows))
    if arguments.part < arguments.count:
        print()
        print(along(rounds[-1]["ferryman"]["parts"], arguments.count, arguments.part))


if __name__ == "__main__":
    main()
