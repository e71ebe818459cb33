"""How fast misses get from a log, or from HTTP, into the queue.

    python bench/logs.py [--lines 1000000] [--events 150000] [--rounds 3] [--window 4] [--format-lines 20000]

Writes an nginx combined log (5 % misses, of which 90 % repeat an earlier one), consumes it from its first
line into the queue of a real Valkey (append-only file on), in one process, several times, each time beside
the floor: the same blocks read, their lines counted and a status looked for, and nothing else. Runs goaccess
on the same file when it is installed; reads every format from memory; posts NDJSON with 90 % repeats to the
admin endpoint in the same process. Prints rates, ratios and the growth of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import httpx
from figures import note, spread
from machine import table
from starlette.applications import Starlette

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from scheduler.dispatch.sink import QueueSink
from scheduler.front.admin.events import routes
from scheduler.logs.checkpoint import Checkpoint
from scheduler.logs.collect import Collector, Recent, Tally
from scheduler.logs.consumer import BLOCK_BYTES, Consumer, InputSpec
from scheduler.logs.filters import make_filter
from scheduler.logs.formats.catalog import FORMATS, format_by_name
from scheduler.logs.formats.prefilter import candidates, count_lines, lines_with, literal_needle
from scheduler.logs.place import Place
from scheduler.logs.reading import FileReader
from support.intake import intake_services, queued_keys
from support.logs.lines import WRITERS, Wanted, target_of
from support.valkey import running_valkey
from workers.collector import spare_what_lasts

AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)


def write_log(path: Path, lines: int) -> tuple[int, int]:
    """The log; (misses, distinct missing keys)."""
    rnd = random.Random(7)
    missing: list[str] = []
    misses = 0
    with path.open("w") as file:
        for number in range(lines):
            if rnd.random() < 0.05:
                misses += 1
                if missing and rnd.random() < 0.9:
                    target = rnd.choice(missing)
                else:
                    target = f"/img/{rnd.getrandbits(40):x}/photo%20{number}.jpg"
                    missing.append(target)
                status, size = 404, 153
            else:
                target = f"/img/{rnd.getrandbits(40):x}/photo%20{number}.jpg"
                status, size = 200, rnd.randrange(100, 999_999)
            second = number // 5000
            file.write(
                f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255} - - "
                f"[21/Nov/2026:03:{second // 60 % 60:02d}:{second % 60:02d} +0000] "
                f'"GET {target} HTTP/1.1" {status} {size} '
                f'"https://www.example.com/page/{number % 997}" "{AGENT}"\n'
            )
    return misses, len(missing)


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def consume(url: str, log: Path, directory: Path, window_s: float) -> tuple[float, dict[str, int], int]:
    """Seconds of one run from the first line, its totals, and the distinct keys in the queue."""
    async with intake_services(url, max_depth=10_000_000) as services:
        checkpoint = Checkpoint(directory / f"{time.monotonic_ns()}.json")
        with checkpoint.hold():
            stop = asyncio.Event()
            sink = QueueSink(dispatcher=services.dispatcher, ledger=services.ledger, stop=stop)
            site = make_filter(Place(bucket="site"))
            spec = InputSpec(path=str(log), format=None, filter=site, fresh="start")
            consumer = Consumer([spec], sink=sink, checkpoint=checkpoint, once=True, dedupe_window_s=window_s)
            began = time.perf_counter()
            await consumer.run(stop)
            took = time.perf_counter() - began
        return took, dict(consumer.totals), len(await queued_keys(services.queue))


def floor(log: Path) -> float:
    """Seconds of reading the log in blocks and looking for statuses and deletions, without what follows."""
    line_format = FORMATS["nginx"]
    needle, gone = line_format.needle((404,)), line_format.delete_needle
    reader = FileReader(log)
    began = time.perf_counter()
    while (piece := reader.read(BLOCK_BYTES)) is not None:
        count_lines(piece.data)
        deque(candidates(piece.data, needle), maxlen=0)
        deque(lines_with(piece.data, gone, literal_needle(gone)), maxlen=0)
    took = time.perf_counter() - began
    reader.close()
    return took


def format_rate(name: str, lines: int) -> tuple[float, float]:
    """(lines/s, MB/s) of one format from memory: 5 % misses, of which 90 % are repeats; best of three."""
    rnd = random.Random(3)
    keys = [f"img/{rnd.getrandbits(40):x}/photo {number}.jpg" for number in range(max(1, lines // 200))]
    parts = []
    for number in range(lines):
        missing = rnd.random() < 0.05
        key = rnd.choice(keys) if missing else f"img/{rnd.getrandbits(40):x}/photo {number}.jpg"
        wanted = Wanted(
            key=key, target=target_of(key), status=404 if missing else 200, at=1_795_233_395 + number // 5000,
            agent=AGENT, referer=f"https://www.example.com/page/{number % 997}",
        )  # fmt: skip
        parts.append(WRITERS[name](wanted) + b"\n")
    data = b"".join(parts)
    ends = [data.rfind(b"\n", 0, at) + 1 for at in range(BLOCK_BYTES, len(data), BLOCK_BYTES)]
    blocks = [data[at:to] for at, to in zip([0, *ends], [*ends, len(data)], strict=True)]
    line_format = format_by_name(name, fields={"target": "where.uri"} if name == "json" else None)
    best = float("inf")
    for _ in range(3):
        tally = Tally()
        collector = Collector(
            line_format, make_filter(Place(bucket="site")), tally=tally, recent=Recent(60.0)
        )
        began = time.process_time()
        for block in blocks:
            collector.read(block, now=0.0)
        best = min(best, time.process_time() - began)
        assert (tally.lines, tally.broken) == (lines, 0), (name, tally)
        assert tally.misses > 0, name
    return lines / best, len(data) / best / 1e6


def goaccess(log: Path) -> float | None:
    program = shutil.which("goaccess")
    if program is None:
        return None
    began = time.perf_counter()
    subprocess.run(
        [program, str(log), "--log-format=COMBINED", "-o", str(log.with_suffix(".json")), "--no-progress"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - began


async def intake(url: str, events: int, *, with_ids: bool) -> tuple[float, dict[str, int], list[float]]:
    """Seconds for an NDJSON body of `events`, the answer, and resident memory on the way."""
    rnd = random.Random(9)
    keys: list[str] = []
    memory: list[float] = []

    def line(number: int) -> bytes:
        if keys and rnd.random() < 0.9:
            key = rnd.choice(keys)
        else:
            key = f"img/{rnd.getrandbits(40):x}/photo {number}.jpg"
            keys.append(key)
        tail = f',"id":"e-{number}","at":1795233395.5,"method":"GET","status":404' if with_ids else ""
        return f'{{"bucket":"site","key":"{key}"{tail}}}\n'.encode()

    blocks = [b"".join(line(at + n) for n in range(600)) for at in range(0, events, 600)]

    async def body():
        for number, block in enumerate(blocks):
            if number % 20 == 0:
                memory.append(resident_mib())
            yield block

    async with intake_services(url, max_depth=10_000_000) as services:
        transport = httpx.ASGITransport(app=Starlette(routes=routes(services)))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin", timeout=600) as client:
            began = time.perf_counter()
            answer = await client.post(
                "/v1/miss-events", content=body(), headers={"content-type": "application/x-ndjson"}
            )
            took = time.perf_counter() - began
        assert answer.status_code == 202, answer.text[:500]
        return took, answer.json(), memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format-lines", type=int, default=20_000, help="of each format")
    parser.add_argument(
        "--window", type=float, default=4.0, help="seconds of memory for repeats; 0: one chunk"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-logs-") as name, running_valkey() as url:
        directory = Path(name)
        log = directory / "access.log"
        misses, distinct = write_log(log, options.lines)
        size = log.stat().st_size
        print(f"log: {options.lines:,} lines, {size / 1e6:.0f} MB, {misses:,} misses, {distinct:,} keys")
        spare_what_lasts()  # as `ferryman consume` does
        rates, floors, memory = [], [], [resident_mib()]
        for _ in range(options.rounds):
            took, totals, queued = asyncio.run(consume(url, log, directory, options.window))
            assert totals["lines"] == options.lines, totals
            assert totals["misses"] == misses, totals
            assert queued == distinct, (queued, distinct)
            rates.append(options.lines / took)
            floors.append(options.lines / floor(log))
            note("logs", lines_per_s=rates[-1], floor_lines_per_s=floors[-1])
            memory.append(resident_mib())
            print(
                f"consume: {took:6.2f} s  {rates[-1]:>10,.0f} lines/s  {size / took / 1e6:5.0f} MB/s  "
                f"resident {memory[-1]:.0f} MiB  {totals}"
            )
        other = goaccess(log)
        rate = statistics.median(rates)
        print(f"consume: {spread(rates, 0)} lines/s; floor: {spread(floors, 0)} lines/s")
        if other is None:
            print("goaccess is not installed: no ratio")
        else:
            theirs = options.lines / other
            note("logs", of_goaccess=rate / theirs)
            print(f"goaccess: {theirs:,.0f} lines/s; ratio {rate / theirs:.1f}")
        rows = [["format, from memory", "lines/s", "MB/s"]]
        for form in WRITERS if options.format_lines else ():
            lines_per_s, megabytes_per_s = format_rate(form, options.format_lines)
            rows.append([form, f"{lines_per_s:,.0f}", f"{megabytes_per_s:,.0f}"])
            note("log formats", **{form: lines_per_s})
        print(f"\n{table(rows)}\n")
        for with_ids in (False, True):
            took, answer, memory = asyncio.run(intake(url, options.events, with_ids=with_ids))
            counts = {name: answer[name] for name in ("received", "accepted", "duplicate", "refused")}
            print(
                f"NDJSON {'with ids and times' if with_ids else 'bare           '}: "
                f"{options.events / took:,.0f} events/s  {counts}  "
                f"resident {memory[0]:.0f} to {memory[-1]:.0f} MiB"
            )


if __name__ == "__main__":
    main()
