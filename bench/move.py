"""Moving objects from an HTTP origin into the store: Ferryman's workers beside rclone, in one run.

    .venv/bin/python bench/move.py [--count 5000] [--size 16384] [--processes 1] [--no-peers]

Origin: nginx. Store: SeaweedFS. Queue: Valkey. CPU is that of the client processes alone (Ferryman: all its
processes, the dispatcher included; start-up excluded on both sides by measuring rclone on one object too).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from machine import cpu_s, describe, peak_rss_mib, static_origin, table

from scheduler.config.settings import Settings
from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.supervise import Supervisor
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.ledger.ledger import Ledger
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.store.metadata import object_meta
from workers.telemetry import log

BATCH = 100


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


async def bare_puts(settings: Settings, bucket: str, count: int, size: int) -> tuple[float, float]:
    """Objects/s and CPU µs of bare create-only PUTs from memory: what the store itself takes."""
    body = os.urandom(size)
    plan = FetchPlan(bucket=bucket, rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
    async with ObjectStore(settings.store, settings.limits) as store:
        await store.ensure_bucket(bucket)
        await store.guarantees(bucket)
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                meta = object_meta((), plan, key=str(number), url="http://o/", attempt="a", fetched_at="x")
                async with store.upload(bucket, f"put/{number}", meta, attempt="a", size=size) as upload:
                    await upload.write(body)
                    await upload.commit()

        before = time.process_time()
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(32)))
        return count / (time.perf_counter() - began), (time.process_time() - before) / count * 1e6


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


def rclone(
    binary: str, settings: Settings, bucket: str, keys: list[str], origin: str, root: Path, warm: list[str]
) -> dict[str, float]:
    """`rclone copy` of the same keys from the same origin; its start-up is measured on one small object."""
    store = settings.store
    secret = store.secret_access_key.get_secret_value() if store.secret_access_key else ""
    config = root / "rclone.conf"
    config.write_text(
        f"[o]\ntype = http\nurl = {origin}/\n[s]\ntype = s3\nprovider = SeaweedFS\n"
        f"access_key_id = {store.access_key_id}\nsecret_access_key = {secret}\nendpoint = {store.endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nno_check_bucket = true\n"
    )
    files = root / "files.txt"
    command = [
        binary, "--config", str(config), "copy", "o:", f"s:{bucket}", "--files-from-raw", str(files),
        "--no-traverse", "--transfers", "32", "--checkers", "32", "--retries", "1", "--s3-no-head",
    ]  # fmt: skip
    results = []
    for part in (warm[:1], keys):
        files.write_text("\n".join(part) + "\n")
        results.append(run(command))
    return without_start(*results, count=len(keys))


def juicefs(binary: str, settings: Settings, bucket: str, www: Path, count: int) -> dict[str, float]:
    """`juicefs sync` of the same files from the local disk: it has no HTTP source, so it saves every GET."""
    store = settings.store
    secret = store.secret_access_key.get_secret_value() if store.secret_access_key else ""
    where = (
        f"minio://{store.access_key_id}:{secret}@{(store.endpoint or '').removeprefix('http://')}/{bucket}"
    )
    results = []
    for source, target in ((www / "warm", "warm"), (www, "all")):
        command = [
            binary, "sync", "--threads", "32", "--list-threads", "4", "--no-https", "--quiet",
            "--exclude", "warm/**", f"file://{source}/", f"{where}/{target}/",
        ]  # fmt: skip
        results.append(run(command))
    return without_start(*results, count=count)


def run(command: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak RSS in MiB of a peer.

    The peak is read while it runs: what `wait4` tells begins with the size of this process.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, peak_rss_mib([process.pid]))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    process.returncode = status
    if status != 0:
        raise SystemExit(f"{command[0]} ended with {status}")
    return seconds, usage.ru_utime + usage.ru_stime, peak


def without_start(
    idle: tuple[float, float, float], whole: tuple[float, float, float], *, count: int
) -> dict[str, float]:
    """What a peer's run took beyond its run on next to nothing."""
    return {
        "rate": count / (whole[0] - idle[0]),
        "cpu_us": (whole[1] - idle[1]) / count * 1e6,
        "rss": whole[2],
        "seconds": whole[0] - idle[0],
    }


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


def peer(name: str) -> str | None:
    """A peer's binary: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--part", type=int, default=1_000_000, help="objects of a stretch whose rate is printed"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--juicefs", action="store_true", help="juicefs sync as well, from the local disk")
    args = parser.parse_args()
    uvloop.install()
    log.configure(level="warning")
    binary, sync = peer("rclone"), peer("juicefs")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running_valkey() as url,
        running_seaweed() as weed,
    ):
        root = Path(name)
        www = root / "www"
        www.mkdir()
        keys = make_files(www, args.count, args.size)
        warm = make_files(www, args.processes * 4, 16 * 1024, prefix="warm/")
        settings = Settings.model_validate(
            {
                "store": {
                    "endpoint": weed.endpoint,
                    "access_key_id": weed.access_key_id,
                    "secret_access_key": weed.secret_access_key,
                },
                "broker": {"url": url},
                "data_dir": str(root / "data"),
            }
        )
        print(f"{args.count} objects of {args.size} bytes; {describe()}")
        large = args.size > 1 << 20
        unit = "CPU ms/MB" if large else "CPU µs/object"
        rows = [["what", "objects/s", "MB/s", unit, "peak RSS MiB"]]

        def row(what: str, found: dict[str, float]) -> list[str]:
            megabytes = found["rate"] * args.size / 1e6
            peak = f"{found['rss']:.0f}" if "rss" in found else ""
            used = f"{found['cpu_us'] / args.size * 1e3:.2f}" if large else f"{found['cpu_us']:.0f}"
            return [what, f"{found['rate']:.{2 if large else 0}f}", f"{megabytes:.1f}", used, peak]

        with static_origin(www, root) as origin:
            if args.size <= 1 << 20:
                rate, cpu = asyncio.run(bare_puts(settings, "bench-put", min(args.count, 5000), args.size))
                rows.append(row("bare signed PUTs", {"rate": rate, "cpu_us": cpu}))
            ours = asyncio.run(
                ferryman(
                    settings,
                    "bench-ours",
                    keys,
                    origin,
                    processes=args.processes,
                    part=args.part,
                    warm=warm,
                )
            )
            rows.append(row(f"ferryman, {args.processes} process(es)", ours))
            if binary is not None and not args.no_peers:
                theirs = rclone(binary, settings, "bench-theirs", keys, origin, root, warm)
                rows.append(row("rclone copy, 32 transfers", theirs))
                ratio = {name: f"{ours[name] / theirs[name]:.2f}" for name in ("rate", "cpu_us", "rss")}
                rows.append(["ferryman / rclone", ratio["rate"], "", ratio["cpu_us"], ratio["rss"]])
            if sync is not None and args.juicefs:
                asyncio.run(make_bucket(settings, "bench-juicefs"))
                rows.append(
                    row("juicefs sync, from disk", juicefs(sync, settings, "bench-juicefs", www, args.count))
                )
        print(table(rows))
        if args.part < args.count:
            print()
            print(along(ours["parts"], args.count, args.part))


if __name__ == "__main__":
    main()
