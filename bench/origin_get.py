"""GET of small objects: the Fetcher against plain aiohttp, side by side in one process.

The origin is a minimal asyncio server in a child process; both clients take turns in short rounds, so that
noise of the machine hits both. Prints client CPU and wall time per object and their ratios; ends with 1 when
the ratio of CPU is over `--limit`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from yarl import URL

from workers.origin.control.control import OriginControl
from workers.origin.fetch.fetcher import Fetched, Fetcher
from workers.origin.wire.client import OriginClient
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.settings import OriginSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.connection import Connection


class _Server(asyncio.Protocol):
    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(self.answer)


def _serve(port: Connection, size: int) -> None:
    headers = (
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 01 Nov 2025 00:00:00 GMT\r\n"
        b"Content-Type: image/jpeg\r\n"
        b'Content-Length: %d\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\nETag: "5e0bd6d7-4000"\r\n'
        b"Accept-Ranges: bytes\r\nCache-Control: max-age=3600\r\n\r\n" % size
    )
    _Server.answer = headers + bytes(size)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def _round(
    get: Callable[[int], Awaitable[int]], objects: int, concurrency: int, size: int
) -> tuple[float, float]:
    numbers = iter(range(objects))

    async def work() -> None:
        for number in numbers:
            assert await get(number) == size

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return (time.process_time() - cpu) / objects, (time.perf_counter() - wall) / objects


async def _compare(port: int, args: argparse.Namespace) -> float:
    settings = OriginSettings()
    plan = FetchPlan(
        bucket="b",
        rule="r",
        groups=(OriginGroup(primary=Origin(host=f"127.0.0.1:{port}")),),
        trusted_hosts=True,
    )
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session,
        OriginClient(settings, instance="bench") as client,
        OriginControl(settings) as control,
    ):
        fetcher = Fetcher(client, control)
        items = [FetchItem(key=f"img/{n}.jpg", path=f"img/{n}.jpg") for n in range(args.objects)]

        async def plain(number: int) -> int:
            got = 0
            url = URL(f"http://127.0.0.1:{port}/img/{number}.jpg", encoded=True)
            async with session.get(url, headers={"Accept-Encoding": "identity"}) as answer:
                async for chunk in answer.content.iter_any():
                    got += len(chunk)
            return got

        async def ours(number: int) -> int:
            got = 0
            async with fetcher.session(plan, items[number], lane=Lane.COLD) as fetch:
                answer = await fetch.open()
                assert isinstance(answer, Fetched)
                async for chunk in answer.chunks():
                    got += len(chunk)
            return got

        rounds: dict[str, list[tuple[float, float]]] = {"aiohttp": [], "fetcher": []}
        for turn in range(args.rounds + 1):
            for name, get in (("aiohttp", plain), ("fetcher", ours)):
                took = await _round(get, args.objects, args.concurrency, args.size)
                if turn:  # the first round warms up
                    rounds[name].append(took)
    cpu = {name: median(one[0] for one in took) for name, took in rounds.items()}
    wall = {name: median(one[1] for one in took) for name, took in rounds.items()}
    for name in rounds:
        print(f"{name:<8} {cpu[name] * 1e6:8.1f} us CPU/object {wall[name] * 1e6:8.1f} us wall/object")
    ratio = median(b[0] / a[0] for a, b in zip(rounds["aiohttp"], rounds["fetcher"], strict=True))
    print(f"ratio    {ratio:8.3f} CPU        {wall['fetcher'] / wall['aiohttp']:8.3f} wall")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1500, help="objects a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--limit", type=float, default=1.25)
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(theirs, args.size), daemon=True)
    server.start()
    try:
        ratio = uvloop.run(_compare(ours.recv(), args))
    finally:
        server.terminate()
        server.join()
    sys.exit(0 if ratio <= args.limit else 1)


if __name__ == "__main__":
    main()
