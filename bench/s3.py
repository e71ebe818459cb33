"""The S3 front beside the store itself: small objects written and read, lists, and large objects both ways.

One client, signing with the store's key for SeaweedFS and with a client's key for the gateway, does the same
to both in turns; only ratios mean something elsewhere. The front is a process of its own with its Valkey; its
memory is the highest that the kernel saw. Ends with 1 when a target is missed and `--strict` is given.

    .venv/bin/python bench/s3.py [--objects 500] [--rounds 5] [--large-mib 256] [--strict]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop
from gateway import BUCKET, SIZE, Bench
from sides.children import child, free_port, front_process, quiet_log, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.store.s3_calls import KEY_ID, SECRET
from support.store.seaweed import running_seaweed
from support.valkey import running_valkey
from workers.settings import LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.wire.signing import UNSIGNED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from support.store.seaweed import Seaweed

LISTED = 1000
MIB = 1024 * 1024
#: Requests under way at once, of small objects and of lists.
AT_ONCE = 16


class Client:
    """The same calls to the store or to the gateway; every answer is looked at."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.body = os.urandom(SIZE)
        self.sha256 = hashlib.sha256(self.body).hexdigest()

    async def put(self, key: str) -> None:
        await self.store.transport.exchange(
            "PUT", BUCKET, key, headers={}, body=self.body, payload_sha256=self.sha256
        )

    async def get(self, key: str) -> None:
        answer = await self.store.transport.exchange("GET", BUCKET, key, headers={})
        assert len(answer.body) == SIZE

    async def list(self, prefix: str) -> None:
        query = [("list-type", "2"), ("max-keys", str(LISTED)), ("prefix", prefix)]
        answer = await self.store.transport.exchange("GET", BUCKET, headers={}, query=query)
        assert answer.body.count(b"<Key>") == LISTED

    async def up(self, key: str, n_bytes: int) -> None:
        piece = os.urandom(256 * 1024)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(n_bytes // len(piece)):
                yield piece

        async with await self.store.pass_on(
            "PUT", BUCKET, key, headers={}, body=pieces(), length=n_bytes, payload_sha256=UNSIGNED
        ) as answer:
            assert answer.status == 200, await answer.read()

    async def down(self, key: str, n_bytes: int) -> None:
        got = 0
        async with await self.store.pass_on("GET", BUCKET, key, headers={}) as answer:
            async for piece in answer.chunks():
                got += len(piece)
        assert got == n_bytes


async def rate(call: Callable[[int], Awaitable[None]], count: int, at_once: int = AT_ONCE) -> float:
    """Calls a second."""
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    return count / (time.perf_counter() - began)


async def seconds(call: Awaitable[None]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class S3Bench(Bench):
    """The rows, each side in turns."""

    def __init__(self, arguments: argparse.Namespace, seaweed: Seaweed, valkey: str, root: Path) -> None:
        super().__init__(arguments, seaweed, valkey, root)
        self.origin = "http://127.0.0.1:9"
        self.small: dict[str, list[float]] = {}

    def client_settings(self) -> dict[str, Any]:
        raw = self.settings()
        key = {"id": KEY_ID, "secret": SECRET, "may": ["read", "list", "write", "delete", "manage"]}
        return raw | {"gateway": raw["gateway"] | {"access_keys": [key]}}

    async def run(self) -> None:
        port = free_port()
        with child(front_process, self.client_settings(), port) as pid:
            wait_for(port)
            async with AsyncExitStack() as stack:
                direct, through = [
                    Client(
                        await stack.enter_async_context(
                            ObjectStore(
                                StoreSettings(endpoint=endpoint, access_key_id=key, secret_access_key=secret),
                                LimitSettings(),
                            )
                        )
                    )
                    for endpoint, key, secret in (
                        (
                            self.seaweed.endpoint,
                            self.seaweed.access_key_id,
                            self.seaweed.secret_access_key,
                        ),
                        (f"http://127.0.0.1:{port}", KEY_ID, SECRET),
                    )
                ]
                await self.objects(direct, through)
                await self.lists(direct, through)
                await self.large(direct, through, pid)

    async def objects(self, direct: Client, through: Client) -> None:
        count = self.arguments.objects
        sides = (("direct", direct), ("front", through))
        for name, one in sides:
            await rate(lambda n, one=one, name=name: one.put(f"warm/{name}/{n}"), min(count, 100))
        puts: dict[str, list[float]] = {name: [] for name, _ in sides}
        gets: dict[str, list[float]] = {name: [] for name, _ in sides}
        for turn in range(self.arguments.rounds):
            # Who is first changes with the turn.
            for name, one in sides if turn % 2 else sides[::-1]:
                key = f"put/{turn}/{name}"
                puts[name].append(await rate(lambda n, one=one, key=key: one.put(f"{key}/{n}"), count))
                gets[name].append(await rate(lambda n, one=one, key=key: one.get(f"{key}/{n}"), count))
        for what, found, least in (("PUT", puts, 0.6), ("GET", gets, None)):
            ratio = median(f / d for f, d in zip(found["front"], found["direct"], strict=True))
            self.row(
                f"{what} 16 KiB",
                f"{median(found['front']):.0f}/s, store {median(found['direct']):.0f}/s: {ratio:.0%}",
                "" if least is None else f">= {least:.0%}",
                None if least is None else ratio >= least,
            )

    async def lists(self, direct: Client, through: Client) -> None:
        await rate(lambda n: direct.put(f"list/{n:05}"), LISTED)
        took: dict[str, list[float]] = {"direct": [], "front": []}
        sides = (("direct", direct), ("front", through))
        for turn in range(self.arguments.rounds * 4):
            for name, one in sides if turn % 2 else sides[::-1]:
                # One after the other: what a client waits for.
                took[name].append(1 / await rate(lambda _, one=one: one.list("list/"), 5, at_once=1))
        ratio = median(f / d for f, d in zip(took["front"], took["direct"], strict=True))
        front, store = (median(took[name]) * 1e3 for name in ("front", "direct"))
        self.row(
            f"LIST of {LISTED:,} keys",
            f"{front:.1f} ms, store {store:.1f} ms: {ratio:.2f} x",
            "<= 1.3 x",
            ratio <= 1.3,
        )

    async def large(self, direct: Client, through: Client, pid: int) -> None:
        n_bytes = self.arguments.large_mib * MIB
        up: list[tuple[float, float]] = []
        down: list[tuple[float, float]] = []
        for turn in range(self.arguments.rounds):
            for found, call in ((up, Client.up), (down, Client.down)):
                pair = {}
                for one in (direct, through) if turn % 2 else (through, direct):
                    pair[one] = await seconds(call(one, "large/one", n_bytes))
                found.append((pair[direct], pair[through]))
        for what, found in (("up", up), ("down", down)):
            ratio = median(d / f for d, f in found)
            front, store = (self.arguments.large_mib / median(one[side] for one in found) for side in (1, 0))
            self.row(
                f"{self.arguments.large_mib} MiB {what}",
                f"{front:.0f} MiB/s, store {store:.0f} MiB/s: {ratio:.0%}",
                ">= 80 %",
                ratio >= 0.8,
            )
        mib = peak_mib(pid)
        self.row("memory of the front, highest", f"{mib:.0f} MiB", "< 150 MiB", mib < 150)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=500, help="small objects a round and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-mib", type=int, default=256)
    parser.add_argument("--strict", action="store_true", help="end with 1 when a target is missed")
    arguments = parser.parse_args()
    quiet_log()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_seaweed() as seaweed,
        running_valkey() as valkey,
    ):
        bench = S3Bench(arguments, seaweed, valkey, Path(directory))
        uvloop.run(bench.run())
    missed = [row for row in bench.rows if row[3] is False]
    return 1 if missed and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
