"""Load that lasts: mixed traffic at 80 % of what this machine can, and what grows meanwhile.

A whole `ferryman up` (Valkey, SeaweedFS, front, scans, consumer, both lanes) under visitors (hits, first
misses, absent keys), events, a log and S3 clients that write, read and delete. The best rate is found out
first, with every connection as fast as it is answered; then requests are sent at 80 % of it, on time whether
answers come or not. Memory, descriptors, Redis, disk and latency (that of looks at the page, a scan and the
gate, too) are sampled; over the last two thirds of the time each has a slope (Theil-Sen), printed per hour
beside its bound. Ends with 1 when one is exceeded, or an answer was wrong.

    .venv/bin/python bench/endurance.py [--minutes 60] [--clients 16] [--share 0.8] [--busy]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import descendants, running_origin, running_up_with
from workers.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.installation import Origin, Up
    from workers.settings import BrokerSettings

BUCKET = "site"
#: What one turn of a client is, and how many of a hundred turns.
MIX = {"hit": 60, "miss": 20, "absent": 5, "event": 5, "log": 4, "write": 3, "read": 2, "delete": 1}
#: Seconds in which the best rate is found out, a share of the whole time.
CALIBRATION_SHARE, CALIBRATION_LEAST_S = 0.02, 15.0
SAMPLES = 240
#: What an operator looks at meanwhile: the more has happened, the same it should take.
LOOKS = {"page": "/", "metrics": "/metrics", "scan": f"/v1/scans/{BUCKET}", "gate": f"/v1/gate/{BUCKET}"}
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """By how much a value may grow over the measured time: a share of its median, and so much of its unit."""

    unit: str
    scale: float
    share: float
    more: float


BOUNDS = {
    "memory": Bound(unit="MiB", scale=MIB, share=0.10, more=8 * MIB),
    "descriptors": Bound(unit="", scale=1, share=0.05, more=24),
    "redis": Bound(unit="MiB", scale=MIB, share=0.10, more=4 * MIB),
    "disk": Bound(unit="MiB", scale=MIB, share=0.10, more=64 * MIB),
    "latency": Bound(unit="ms", scale=0.001, share=0.50, more=0.020),
}


@dataclass(slots=True)
class Seen:
    """What came of the load."""

    #: Kind of turn -> seconds of those since the last sample.
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    #: Turns that began later than their time, because too many were under way.
    late: int = 0


class Traffic:
    """One site under load."""

    def __init__(self, up: Up, origin: Origin, keys: dict[str, str], log: Path, *, clients: int) -> None:
        self.up, self.origin, self.log = up, origin, log
        self.seen = Seen()
        self.clients = clients
        self._numbers = itertools.count()
        self._own: list[str] = []
        self._hits: list[str] = []
        self._chance = random.Random(1)
        self._body = random.Random(2).randbytes(16_384)
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        self._http = httpx.AsyncClient(trust_env=False, timeout=30, limits=limits)
        self._headers = {"Authorization": f"Bearer {up.token}", "Content-Type": "application/x-ndjson"}
        self._s3 = _s3_client(up.gateway, keys)

    async def close(self) -> None:
        await self._http.aclose()

    def _fresh(self) -> str:
        key = f"k/{next(self._numbers)}"
        self.origin.bodies[key] = self._body
        return key

    async def warm(self) -> None:
        """Objects for hits, and a scan to look at."""
        order = {"name": BUCKET}
        await self._http.post(
            f"{self.up.admin}/v1/scans",
            json=order,
            headers={**self._headers, "Content-Type": "application/json"},
        )
        for _ in range(200):
            key = self._fresh()
            await self._get(key, 200)
            self._hits.append(key)

    async def turn(self) -> None:
        kind = self._chance.choices(list(MIX), weights=list(MIX.values()))[0]
        began = time.perf_counter()
        try:
            await getattr(self, f"_{kind}")()
        except (httpx.HTTPError, OSError) as error:
            self.seen.answers[f"{kind} {type(error).__name__}"] += 1
            return
        self.seen.answers[kind] += 1
        self.seen.took[kind].append(time.perf_counter() - began)

    async def _get(self, key: str, status: int) -> None:
        answer = await self._http.get(f"{self.up.gateway}/{BUCKET}/{key}")
        if answer.status_code != status or (status == 200 and answer.content != self._body):
            self.seen.wrong.append(f"GET {key}: {answer.status_code}, {len(answer.content)} bytes")

    async def look(self, path: str) -> float:
        """Seconds of one look at the admin side."""
        began = time.perf_counter()
        answer = await self._http.get(f"{self.up.admin}{path}", headers=self._headers)
        if answer.status_code != 200:
            self.seen.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        return time.perf_counter() - began

    async def _hit(self) -> None:
        await self._get(self._chance.choice(self._hits), 200)

    async def _miss(self) -> None:
        key = self._fresh()
        await self._get(key, 200)
        del self.origin.bodies[key]  # it is stored, or will be from the front's own pull

    async def _absent(self) -> None:
        await self._get(f"nowhere/{next(self._numbers)}", 404)

    async def _event(self) -> None:
        lines = "".join(f'{{"bucket": "{BUCKET}", "key": "{self._fresh()}"}}\n' for _ in range(5))
        answer = await self._http.post(
            f"{self.up.admin}/v1/miss-events", content=lines, headers=self._headers
        )
        if answer.status_code not in {202, 503}:
            self.seen.wrong.append(f"event: {answer.status_code} {answer.text[:200]}")

    async def _log(self) -> None:
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        with self.log.open("a") as file:
            file.write(f'127.0.0.1 - - [{when}] "GET /{self._fresh()} HTTP/1.1" 404 153 "-" "-"\n')

    async def _write(self) -> None:
        key = f"own/{next(self._numbers) % 500}"
        await asyncio.to_thread(self._s3.put_object, Bucket=BUCKET, Key=key, Body=self._body)
        self._own = [*self._own[-99:], key]

    async def _read(self) -> None:
        if self._own:
            from botocore.exceptions import ClientError

            key = self._chance.choice(self._own)
            with contextlib.suppress(ClientError):  # it may have been deleted since
                await asyncio.to_thread(self._s3.head_object, Bucket=BUCKET, Key=key)

    async def _delete(self) -> None:
        if self._own:
            key = self._own.pop(0)
            await asyncio.to_thread(self._s3.delete_object, Bucket=BUCKET, Key=key)

    async def best_rate(self, seconds: float) -> float:
        """Turns a second with every client busy."""
        done, ends = 0, time.monotonic() + seconds

        async def client() -> None:
            nonlocal done
            while time.monotonic() < ends:
                await self.turn()
                done += 1

        await asyncio.gather(*(client() for _ in range(self.clients)))
        return done / seconds

    async def run(self, rate: float, seconds: float) -> None:
        """At this rate, on time; no more than ten times the clients under way."""
        began, running = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            if len(running) >= 10 * self.clients:
                self.seen.late += 1
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self.turn())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)


def _s3_client(gateway: str, keys: dict[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=gateway, region_name="us-east-1", aws_access_key_id=keys["client_access_key_id"],
        aws_secret_access_key=keys["client_secret_access_key"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
    )  # fmt: skip


# ---------------------------------------------------------------------- sampling


class Sampler:
    """Reads what may grow: of our own processes, of Redis, of the disk but for objects."""

    def __init__(self, up: Up, broker: BrokerSettings, traffic: Traffic) -> None:
        self._up, self._traffic = up, traffic
        self._ledger = Ledger.open(broker)
        self.rows: dict[str, list[tuple[float, float]]] = defaultdict(list)

    async def close(self) -> None:
        await self._ledger.close()

    async def take(self, at_s: float) -> None:
        memory: Counter[str] = Counter()
        descriptors: Counter[str] = Counter()
        for pid, line in descendants(self._up.process.pid).items():
            part = _part(line)
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/statm").read_text().split()
                memory[part] += int(status[1]) * os.sysconf("SC_PAGE_SIZE")
                descriptors[part] += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for part in memory:
            if part not in {"store", "valkey"}:  # what others have written; Redis says itself what it holds
                self.rows[f"memory of {part}"].append((at_s, memory[part]))
            self.rows[f"descriptors of {part}"].append((at_s, descriptors[part]))
        info: dict[str, Any] = dict(await self._ledger.redis.info("memory"))
        self.rows["redis memory"].append((at_s, float(info["used_memory"])))
        self.rows["disk of data_dir but for store and Valkey"].append((at_s, _disk(self._up.data_dir)))
        for name, path in LOOKS.items():
            self.rows[f"latency of a look at the {name}"].append((at_s, await self._traffic.look(path)))
        took, self._traffic.seen.took = self._traffic.seen.took, defaultdict(list)
        for kind in ("hit", "miss"):
            if took[kind]:
                self.rows[f"latency of a {kind}, median"].append((at_s, median(took[kind])))


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


def slope(rows: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen: the median of the slopes between any two, so that a few samples out of line do not count."""
    pairs = itertools.combinations(rows, 2)
    slopes = [(b - a) / (then - now) for (now, a), (then, b) in pairs if then > now]
    return median(slopes) if slopes else 0.0


def judge(rows: dict[str, list[tuple[float, float]]], *, busy: bool) -> int:
    """Print every slope beside its bound; how many exceed it. `busy`: latencies are shown, and not judged."""
    exceeded = 0
    print(f"{'what':44} {'median':>12} {'slope an hour':>16} {'bound an hour':>16}")
    for name, all_of_it in sorted(rows.items()):
        late = all_of_it[len(all_of_it) // 3 :]
        window_s = late[-1][0] - late[0][0]
        if window_s <= 0:
            continue
        bound = next(bound for word, bound in BOUNDS.items() if word in name)
        middle = median(value for _, value in late)
        allowed = (bound.share * middle + bound.more) / window_s
        found = slope(late)
        over = found > allowed
        exceeded += over and not (busy and "latency" in name)
        shown = [middle / bound.scale, found * 3600 / bound.scale, allowed * 3600 / bound.scale]
        numbers = f"{shown[0]:12,.1f} {shown[1]:+16,.2f} {shown[2]:+16,.2f}"
        print(f"{name:44} {numbers} {bound.unit:4} {'EXCEEDED' if over else 'ok'}", flush=True)
    return exceeded


# ---------------------------------------------------------------------- the whole


async def endure(up: Up, origin: Origin, config: Path, log: Path, arguments: argparse.Namespace) -> int:
    settings = resolve_running(load_settings(config, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
    import orjson

    keys = orjson.loads((up.data_dir / "credentials.json").read_bytes())
    seconds = arguments.minutes * 60
    traffic = Traffic(up, origin, keys, log, clients=arguments.clients)
    sampler = Sampler(up, settings.broker, traffic)
    try:
        await traffic.warm()
        first = max(CALIBRATION_LEAST_S, seconds * CALIBRATION_SHARE)
        best = await traffic.best_rate(first)
        rate = best * arguments.share
        print(f"best rate {best:.0f}/s over {first:.0f} s; now {rate:.0f}/s for {seconds:.0f} s", flush=True)
        traffic.seen.took.clear()
        load = asyncio.create_task(traffic.run(rate, seconds))
        began = time.monotonic()
        while not load.done():
            await asyncio.sleep(max(1.0, seconds / SAMPLES))
            await sampler.take(time.monotonic() - began)
        await load
    finally:
        await traffic.close()
        await sampler.close()
    exceeded = judge(sampler.rows, busy=arguments.busy)
    seen = traffic.seen
    print(f"answers: {dict(seen.answers.most_common())}; begun late: {seen.late}")
    for text in seen.wrong[:20]:
        print(f"WRONG: {text}")
    failed = sum(number for name, number in seen.answers.items() if " " in name)
    if failed > 0.001 * sum(seen.answers.values()):
        print(f"{failed} requests without an answer")
        exceeded += 1
    return exceeded + len(seen.wrong)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16, help="busy at once to find out the best rate")
    parser.add_argument("--share", type=float, default=0.8, help="of the best rate")
    parser.add_argument(
        "--busy", action="store_true", help="others use this machine: latencies are not judged"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-endurance-") as folder, running_origin() as origin:
        root, log, manifest = Path(folder), Path(folder) / "access.log", Path(folder) / "keys.txt"
        log.touch()
        manifest.write_text("k/0\n")
        config = root / "config.yaml"
        config.write_text(
            f"buckets: {{{BUCKET}: {{access: public, rules: [{{name: all, origins: ['{origin.url}']}}]}}}}\n"
            f"consume: [{{path: {log}, format: combined, bucket: {BUCKET}, start: start}}]\n"
            f"scans: {{{BUCKET}: {{bucket: {BUCKET}, inventory: {{manifest: {manifest}}}}}}}\n"
        )
        with running_up_with(root / "up", "--config", str(config)) as up:
            return 1 if uvloop.run(endure(up, origin, config, log, arguments)) else 0


if __name__ == "__main__":
    sys.exit(main())
