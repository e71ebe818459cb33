"""Moving objects from an HTTP origin into the store: Ferryman's workers beside rclone, in one run.

    .venv/bin/python bench/move.py [--count 5000] [--size 16384] [--processes 1] [--no-peers]

Origin: nginx. Store: SeaweedFS. Queue: Valkey. CPU is that of the client processes alone (Ferryman: all its
processes, the dispatcher included; start-up excluded on both sides by measuring rclone on one object too).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop
from machine import cpu_s, describe, peak_rss_mib, static_origin, table

from scheduler.processes import LaneSize, worker_children
from scheduler.settings import Settings
from scheduler.supervise import Supervisor
from support.seaweed import running_seaweed
from support.valkey import running_valkey
from workers import log
from workers.ledger import Ledger
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue import JobQueue
from workers.store.client import ObjectStore
from workers.store.metadata import object_meta

BATCH = 100


def make_files(www: Path, count: int, size: int) -> list[str]:
    keys = []
    block = os.urandom(size)
    for number in range(count):
        key = f"{number % 50:02d}/{number:07d}.bin"
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


async def ferryman(
    settings: Settings, bucket: str, keys: list[str], origin: str, *, processes: int, part: int
) -> dict[str, float]:
    """Move the keys through queue and workers; rate, CPU µs an object, peak RSS, and the rate of each part."""
    log.configure(level="warning")
    host = origin.removeprefix("http://")
    plan = FetchPlan(
        bucket=bucket,
        rule="bench",
        groups=(OriginGroup(primary=Origin(host=host, scheme="http")),),
        trusted_hosts=True,
    )
    async with ObjectStore(settings.store, settings.limits) as store:
        await store.ensure_bucket(bucket)
    ledger = Ledger.open(settings.broker)
    queue = JobQueue.open(settings.broker)
    async with Supervisor() as supervisor:
        size = LaneSize(processes=processes, threads=None)
        pids = [await supervisor.start(child) for child in worker_children(settings, [Lane.COLD], size)]
        # Warm: the workers have imported, connected and probed the store before the clock starts.
        await wave(ledger, queue, plan, keys[: processes * 4], "warm")
        rest = keys[processes * 4 :]
        cpu = cpu_s(pids)
        own = time.process_time()
        began = time.perf_counter()
        rates = []
        for at in range(0, len(rest), part):
            here = time.perf_counter()
            await wave(ledger, queue, plan, rest[at : at + part], f"run{at}")
            rates.append(min(part, len(rest) - at) / (time.perf_counter() - here))
        seconds = time.perf_counter() - began
        used = cpu_s(pids) - cpu + time.process_time() - own
        peak = peak_rss_mib(pids)
    await queue.close()
    await ledger.close()
    return {
        "rate": len(rest) / seconds,
        "cpu_us": used / len(rest) * 1e6,
        "rss": peak,
        "seconds": seconds,
        "first": rates[0],
        "last": rates[-1],
    }


async def wave(ledger: Ledger, queue: JobQueue, plan: FetchPlan, keys: list[str], name: str) -> None:
    run = f"{name}-{uuid.uuid4().hex[:8]}"
    batches = [
        Batch(
            plan=plan,
            lane=Lane.COLD,
            scan=run,
            batch=number,
            items=tuple(
                FetchItem(key=key, path=key, position=at)
                for at, key in enumerate(keys[start : start + BATCH])
            ),
        )
        for number, start in enumerate(range(0, len(keys), BATCH))
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
    binary: str, settings: Settings, bucket: str, keys: list[str], origin: str, root: Path
) -> dict[str, float]:
    """`rclone copy` of the same keys from the same origin."""
    store = settings.store
    secret = store.secret_access_key.get_secret_value() if store.secret_access_key else ""
    config = root / "rclone.conf"
    config.write_text(
        f"[o]\ntype = http\nurl = {origin}/\n[s]\ntype = s3\nprovider = SeaweedFS\n"
        f"access_key_id = {store.access_key_id}\nsecret_access_key = {secret}\nendpoint = {store.endpoint}\n"
        "region = us-east-1\nforce_path_style = true\nno_check_bucket = true\n"
    )
    results = []
    for part in (keys[:1], keys[1:]):
        files = root / "files.txt"
        files.write_text("\n".join(part) + "\n")
        command = [
            binary, "--config", str(config), "copy", "o:", f"s:{bucket}", "--files-from-raw", str(files),
            "--no-traverse", "--transfers", "32", "--checkers", "32", "--retries", "1", "--s3-no-head",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        del before
        if status != 0:
            raise SystemExit(f"rclone ended with {status}")
        results.append((seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    (idle, idle_cpu, _), (seconds, cpu, peak) = results
    return {
        "rate": (len(keys) - 1) / (seconds - idle),
        "cpu_us": (cpu - idle_cpu) / (len(keys) - 1) * 1e6,
        "rss": peak,
        "seconds": seconds - idle,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--part", type=int, default=1_000_000, help="objects of a stretch whose rate is printed"
    )
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    uvloop.install()
    beside = Path(sys.executable).parent / "rclone"
    binary = str(beside) if beside.exists() else shutil.which("rclone")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running_valkey() as url,
        running_seaweed() as weed,
    ):
        root = Path(name)
        www = root / "www"
        www.mkdir()
        keys = make_files(www, args.count, args.size)
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
        rows = [["what", "objects/s", "MB/s", "CPU µs/object", "peak RSS MiB"]]

        def row(what: str, found: dict[str, float]) -> list[str]:
            megabytes = found["rate"] * args.size / 1e6
            peak = f"{found['rss']:.0f}" if "rss" in found else ""
            return [what, f"{found['rate']:.0f}", f"{megabytes:.1f}", f"{found['cpu_us']:.0f}", peak]

        with static_origin(www, root) as origin:
            if args.size <= 1 << 20:
                rate, cpu = asyncio.run(bare_puts(settings, "bench-put", min(args.count, 5000), args.size))
                rows.append(row("bare signed PUTs", {"rate": rate, "cpu_us": cpu}))
            ours = asyncio.run(
                ferryman(settings, "bench-ours", keys, origin, processes=args.processes, part=args.part)
            )
            rows.append(row(f"ferryman, {args.processes} process(es)", ours))
            if binary is not None and not args.no_peers:
                theirs = rclone(binary, settings, "bench-theirs", keys, origin, root)
                rows.append(row("rclone copy, 32 transfers", theirs))
                rows.append(
                    ["ferryman / rclone", f"{ours['rate'] / theirs['rate']:.2f}", "", f"{ours['cpu_us'] / theirs['cpu_us']:.2f}",
                     f"{ours['rss'] / theirs['rss']:.2f}"]
                )  # fmt: skip
        print(table(rows))
        if args.part < args.count:
            print(f"first {args.part}: {ours['first']:.0f}/s, last: {ours['last']:.0f}/s")


if __name__ == "__main__":
    main()
