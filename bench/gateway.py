"""The gateway: hits against a bare proxy, misses against the store's own PUT rate, first bytes, idle
connections.

Everything is real but the load generator: SeaweedFS, Valkey, nginx as the origin, front processes of their
own. Rounds alternate, so that noise of the machine hits both sides; ratios of one run are what counts.
Prints a table; ends with 1 when a target is missed and `--strict` is given. Needs nginx (apt-get install
nginx-light).

    .venv/bin/python bench/gateway.py [--seconds 3] [--rounds 3] [--idle 10000] [--only hits,misses,...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import aiohttp
import uvloop
from figures import note
from machine import cpu_s, static_origin
from sides.children import child, free_port, front_process, quiet_log, wait_for
from sides.floors import bare_proxy, bare_tee
from sides.http_load import closed_loop, cycle, open_loop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scheduler.runtime import open_services
from support.gateway import gateway_settings
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from support.store.seaweed import Seaweed

SIZE = 16 * 1024
BUCKET = "bench"


# ------------------------------------------------------------ the parts


class Bench:
    def __init__(self, arguments: argparse.Namespace, seaweed: Seaweed, valkey: str, root: Path) -> None:
        self.arguments = arguments
        self.seaweed = seaweed
        self.root = root
        self.rows: list[tuple[str, str, str, bool | None]] = []
        self.www = root / "www"
        self.origin = ""
        self.valkey = valkey

    def settings(self) -> dict[str, Any]:
        settings: Settings = gateway_settings(
            self.seaweed,
            self.valkey,
            BUCKET,
            [{"prefix": "", "origins": [self.origin]}],
            data_dir=self.root / "data",
            namespace="bench",
            gateway={"listen": "127.0.0.1:0", "misses_per_client_per_s": 0, "misses_per_s": 0},
        )
        return json.loads(settings.model_dump_json()) | {
            "store": {
                "endpoint": self.seaweed.endpoint,
                "access_key_id": self.seaweed.access_key_id,
                "secret_access_key": self.seaweed.secret_access_key,
                "create_only": "if-none-match",
            }
        }

    def fill_origin(self, count: int) -> list[str]:
        """New objects at the origin; their keys."""
        name = uuid.uuid4().hex[:8]
        directory = self.www / name
        directory.mkdir(parents=True)
        body = os.urandom(SIZE)
        for number in range(count):
            (directory / f"{number}.bin").write_bytes(body)
        return [f"{name}/{number}.bin" for number in range(count)]

    def row(self, what: str, measured: str, target: str, ok: bool | None) -> None:
        self.rows.append((what, measured, target, ok))
        print(
            f"{what:34} {measured:58} {target:28} {'' if ok is None else 'ok' if ok else 'MISSED'}",
            flush=True,
        )

    async def publish(self) -> None:
        """Let everybody read the bucket, for the bare proxy."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.seaweed.endpoint,
            aws_access_key_id=self.seaweed.access_key_id,
            aws_secret_access_key=self.seaweed.secret_access_key,
            region_name="us-east-1",
        )
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": ["s3:GetObject"],
                    "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
                }
            ],
        }
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))

    async def hits(self) -> None:
        one, proxy, two = free_port(), free_port(), free_port()
        raw = self.settings()
        with (
            child(front_process, raw, one) as front,
            child(bare_proxy, self.seaweed.endpoint, proxy) as bare_front,
            child(front_process, raw, two),
            child(front_process, raw, two),
        ):
            for port in (one, proxy, two):
                wait_for(port)
            await self.publish()
            paths = [f"/{BUCKET}/{key}" for key in self.fill_origin(100)]
            await closed_loop(one, iter(paths), connections=8)
            await _until_served(proxy, paths)
            sides = {"bare": (proxy, [bare_front]), "gateway": (one, [front]), "two": (two, [])}
            rates: dict[str, list[float]] = {name: [] for name in sides}
            costs_ms: dict[str, list[float]] = {name: [] for name in sides}

            async def hit(name: str, seconds: float) -> None:
                port, pids = sides[name]
                before = cpu_s(pids)
                load = await closed_loop(port, cycle(paths), connections=32, seconds=seconds)
                rates[name].append(load.rate)
                costs_ms[name].append((cpu_s(pids) - before) / load.count * 1e3)

            for name in sides:
                await hit(name, 0.5)  # warm: connected, the bucket known
                rates[name].clear()
                costs_ms[name].clear()
            for number in range(self.arguments.rounds):
                for name in sides if number % 2 == 0 else reversed(sides):
                    await hit(name, self.arguments.seconds)
                note(
                    "hit",
                    of_bare=rates["gateway"][-1] / rates["bare"][-1],
                    rate=rates["gateway"][-1],
                    bare_rate=rates["bare"][-1],
                    front_cpu_ms=costs_ms["gateway"][-1],
                    bare_cpu_ms=costs_ms["bare"][-1],
                )
        bare, gateway, both = (median(rates[name]) for name in ("bare", "gateway", "two"))
        ratio = median(g / b for g, b in zip(rates["gateway"], rates["bare"], strict=True))
        self.row(
            "hit, 16 KiB",
            f"{gateway:.0f}/s, bare proxy {bare:.0f}/s: {ratio:.0%}, {median(costs_ms['gateway']):.2f} and "
            f"{median(costs_ms['bare']):.2f} ms CPU",
            ">= 85 %",
            ratio >= 0.85,
        )
        more = median(t / g for t, g in zip(rates["two"], rates["gateway"], strict=True))
        self.row("two front processes, hits", f"{both:.0f}/s: {more:.2f} x one", "> 1 x", more > 1)

    async def misses(self) -> float:
        """Misses, also behind a gateway that has asked the store already; each with its floor."""
        from scheduler.config.settings import Settings

        raw = self.settings()
        raw["gateway"] = raw["gateway"] | {"trusted_proxies": ["127.0.0.1/32"]}
        ports = {name: free_port() for name in ("front", "floor", "floor told")}
        count = self.arguments.objects
        rates: dict[str, list[float]] = {name: [] for name in ("put", "miss", "told", "floor", "floor told")}
        costs_ms: dict[str, list[float]] = {name: [] for name in rates}
        with (
            child(front_process, raw, ports["front"]) as front,
            child(bare_tee, raw, BUCKET, self.origin, ports["floor"], True, False) as floor,
            child(bare_tee, raw, BUCKET, self.origin, ports["floor told"], False, False) as floor_told,
        ):
            sides = {
                "miss": (ports["front"], front, ""),
                "told": (ports["front"], front, "X-Ferryman-Status: 404\r\n"),
                "floor": (ports["floor"], floor, ""),
                "floor told": (ports["floor told"], floor_told, ""),
            }
            for port in ports.values():
                wait_for(port)
            async with open_services(Settings.model_validate(raw)) as services:

                async def put() -> None:
                    prefix, numbers, body = uuid.uuid4().hex[:8], iter(range(count)), os.urandom(SIZE)

                    async def some() -> None:
                        for number in numbers:
                            await services.store.put_small(
                                BUCKET, f"{prefix}/{number}", body, content_type="application/octet-stream"
                            )

                    began = time.perf_counter()
                    await asyncio.gather(*(some() for _ in range(32)))
                    rates["put"].append(count / (time.perf_counter() - began))

                async def miss(name: str, objects: int) -> None:
                    port, pid, headers = sides[name]
                    paths = iter([f"/{BUCKET}/{key}" for key in self.fill_origin(objects)])
                    before = cpu_s([pid])
                    load = await closed_loop(port, paths, connections=32, headers=headers)
                    rates[name].append(load.rate)
                    costs_ms[name].append((cpu_s([pid]) - before) / load.count * 1e3)

                for name in sides:
                    await miss(name, min(count, 100))  # warm: connected, the bucket known
                    rates[name].clear()
                    costs_ms[name].clear()
                for number in range(self.arguments.rounds):
                    await put()
                    for name in sides if number % 2 == 0 else reversed(sides):
                        await miss(name, count)
                    for row, mine, bare in (("miss", "miss", "floor"), ("miss told", "told", "floor told")):
                        note(
                            row,
                            of_put=rates[mine][-1] / rates["put"][-1],
                            floor_of_put=rates[bare][-1] / rates["put"][-1],
                            front_cpu_ms=costs_ms[mine][-1],
                            floor_front_cpu_ms=costs_ms[bare][-1],
                            rate=rates[mine][-1],
                            put_rate=rates["put"][-1],
                        )
        for name, what, least in (
            ("miss", "Mirror miss, 16 KiB, distinct keys", 0.45),
            ("told", "the same, the gateway has asked", 0.55),
            ("floor", "floor: bare look-up, GET and PUT", None),
            ("floor told", "floor: bare GET and PUT", None),
        ):
            ratio = median(m / p for m, p in zip(rates[name], rates["put"], strict=True))
            self.row(
                what,
                f"{median(rates[name]):.0f}/s, bare PUT {median(rates['put']):.0f}/s: {ratio:.0%}, "
                f"{median(costs_ms[name]):.2f} ms CPU",
                "" if least is None else f">= {least:.0%}",
                None if least is None else ratio >= least,
            )
        return median(rates["miss"])

    async def first_bytes(self, saturation: float) -> None:
        """First bytes of misses beside the origin's, and those of a floor that answers before it stores."""
        ports = {"front": free_port(), "floor": free_port(), "origin": int(self.origin.rpartition(":")[2])}
        raw, rate = self.settings(), saturation * 0.3
        firsts: dict[str, list[float]] = {name: [] for name in ports}
        with (
            child(front_process, raw, ports["front"]),
            child(bare_tee, raw, BUCKET, self.origin, ports["floor"], True, True),
        ):

            def paths(name: str, count: int) -> list[str]:
                keys = self.fill_origin(count)
                return [f"/{key}" if name == "origin" else f"/{BUCKET}/{key}" for key in keys]

            for name, port in ports.items():
                wait_for(port)
                await closed_loop(port, iter(paths(name, 50)), connections=8)
            for number in range(self.arguments.rounds):
                of_round = {}
                for name in ports if number % 2 == 0 else reversed(ports):
                    asked = paths(name, max(2, int(rate * self.arguments.seconds)))
                    of_round[name] = await open_loop(ports[name], asked, rate=rate)
                    firsts[name] += of_round[name]
                note(
                    "first byte",
                    **{
                        f"{before}{name}_added_ms": (
                            quantiles(of_round[side], n=100)[at] - quantiles(of_round["origin"], n=100)[at]
                        )
                        * 1e3
                        for side, before in (("front", ""), ("floor", "floor_"))
                        for name, at in (("p50", 49), ("p99", 98))
                    },
                )
        for name, at, more in (("p50", 49, 0.002), ("p99", 98, 0.006)):
            here, bare, there = (quantiles(firsts[side], n=100)[at] for side in ("front", "floor", "origin"))
            self.row(
                f"first byte of a miss, {name}",
                f"{here * 1e3:.1f} ms, floor {bare * 1e3:.1f} ms, origin {there * 1e3:.1f} ms, "
                f"open loop {rate:.0f}/s",
                f"origin + {more * 1e3:.0f} ms",
                here <= there + more,
            )

    async def idle(self) -> None:
        count = self.arguments.idle
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 1000)), hard))
        port, raw = free_port(), self.settings()
        with child(front_process, raw, port) as pid:
            wait_for(port)
            key = self.fill_origin(1)[0]
            request = f"GET /{BUCKET}/{key} HTTP/1.1\r\nHost: h\r\nRange: bytes=0-0\r\n\r\n".encode()
            await closed_loop(port, iter([f"/{BUCKET}/{key}"] * 50), connections=2)
            before = _rss_mib(pid)
            writers = []
            began = time.monotonic()
            for _ in range(count):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048)
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
                writers.append(writer)
                if time.monotonic() - began > 60:
                    break
            after = _rss_mib(pid)
            for writer in writers:
                writer.transport.abort()
        self.row(
            f"{len(writers)} idle keep-alive connections",
            f"{after:.0f} MiB, {before:.0f} MiB before",
            "< 300 MiB for 10,000",
            after < 300 and len(writers) == count,
        )


async def _until_served(port: int, paths: list[str]) -> None:
    """Wait until the store has what the gateway has already answered with."""
    async with aiohttp.ClientSession() as session:
        for path in paths:
            for _ in range(200):
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    if response.status == 200:
                        break
                await asyncio.sleep(0.02)


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS")


async def run(bench: Bench) -> None:
    wanted = set(bench.arguments.only.split(","))
    if "hits" in wanted:
        await bench.hits()
    saturation = 300.0
    if "misses" in wanted:
        saturation = await bench.misses()
    if "first" in wanted:
        await bench.first_bytes(saturation)
    if "idle" in wanted:
        await bench.idle()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1000, help="of a round of misses")
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    parser.add_argument("--only", default="hits,misses,first,idle")
    parser.add_argument("--strict", action="store_true", help="end with 1 when a target is missed")
    arguments = parser.parse_args()
    quiet_log()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        root = Path(name)
        (root / "www").mkdir()
        (root / "nginx").mkdir()
        seaweed = stack.enter_context(running_seaweed())
        bench = Bench(arguments, seaweed, stack.enter_context(running_valkey()), root)
        bench.origin = stack.enter_context(static_origin(bench.www, root / "nginx"))
        uvloop.run(run(bench))
    if arguments.strict and any(ok is False for *_, ok in bench.rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
