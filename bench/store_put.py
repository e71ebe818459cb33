"""What one small object costs on its way into the store: Upload beside bare signed PUTs, in one run.

    .venv/bin/python bench/store_put.py [--count 2000] [--concurrency 32] [--size 16384] [--profile]

The server is the embedded SeaweedFS; CPU is the client process alone. A null server (answers every PUT with
200 as soon as its body is there, in a process of its own) shows the client without a store that is busy on
the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import os
import pstats
import sys
import time
from hashlib import sha256
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.store.seaweed import running_seaweed
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.settings import LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.guarantees import CreateOnly, StoreGuarantees
from workers.store.metadata import object_meta

PLAN = FetchPlan(bucket="bench", rule="images", groups=(OriginGroup(primary=Origin(host="old.example.com")),))
HEADERS = (
    ("Content-Type", "image/jpeg"),
    ("Content-Length", "16384"),
    ("ETag", '"5f3b2a1c-4000"'),
    ("Last-Modified", "Tue, 01 Apr 2025 10:00:00 GMT"),
    ("Cache-Control", "max-age=86400"),
    ("Server", "nginx"),
    ("Date", "Tue, 01 Apr 2025 10:00:00 GMT"),
    ("Connection", "keep-alive"),
)


class _Null(asyncio.Protocol):
    """Reads requests with a length and answers 200 to each."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.need = -1

    def data_received(self, data):
        self.buffer += data
        while True:
            if self.need < 0:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = self.buffer[:end].lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                self.need = end + 4 + length
            if len(self.buffer) < self.need:
                return
            self.buffer = self.buffer[self.need :]
            self.need = -1
            self.transport.write(b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n')


def null_server(pipe) -> None:
    async def main():
        server = await asyncio.get_running_loop().create_server(_Null, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def bare(store, tag, number, body):
    await store.transport.exchange(
        "PUT", "bench", f"bare/{tag}/{number}.jpg", headers={"content-type": "image/jpeg"}, body=body,
        payload_sha256=sha256(body).hexdigest(),
    )  # fmt: skip


async def whole(store, tag, number, body):
    key = f"img/{tag}/{number}.jpg"
    attempt = f"{tag}-{number}"
    meta = object_meta(
        HEADERS, PLAN, key=key, url=f"http://old.example.com/{key}", attempt=attempt,
        fetched_at="2025-04-01T10:00:00Z",
    )  # fmt: skip
    async with store.upload("bench", key, meta, attempt=attempt, size=len(body)) as upload:
        await upload.write(body)
        commit = await upload.commit()
        assert commit.created


async def rate(store, work, tag, count, concurrency, body):
    """Objects a second, and microseconds of CPU an object."""
    numbers = iter(range(count))

    async def lane():
        for number in numbers:
            await work(store, tag, number, body)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return count / wall, cpu / count * 1e6


async def measure(name, endpoint, key, secret, options, guarantees=None):
    settings = StoreSettings(endpoint=endpoint, access_key_id=key, secret_access_key=secret)
    body = os.urandom(options.size)
    async with ObjectStore(settings, LimitSettings()) as store:
        if guarantees is None:
            await store.ensure_bucket("bench")
            await store.guarantees("bench")
        else:
            store.assume("bench", guarantees)
        await rate(store, bare, f"warm{name}", 200, options.concurrency, body)
        results = []
        for turn in range(2):
            results.append(await rate(store, bare, f"b{turn}", options.count, options.concurrency, body))
            if options.profile and turn:
                profile = cProfile.Profile()
                profile.enable()
            results.append(await rate(store, whole, f"w{turn}", options.count, options.concurrency, body))
            if options.profile and turn:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    (bare_rate, bare_cpu), (whole_rate, whole_cpu) = (
        [max(r[0] for r in some), min(r[1] for r in some)] for some in (results[::2], results[1::2])
    )
    print(f"| {name} | {bare_rate:,.0f} | {bare_cpu:.0f} | {whole_rate:,.0f} | {whole_cpu:.0f} "
          f"| {whole_rate / bare_rate:.2f} | {whole_cpu / bare_cpu:.2f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    print("| store | bare PUT/s | bare CPU µs | Upload/s | Upload CPU µs | rate ratio | CPU ratio |")
    print("|---|---|---|---|---|---|---|")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=null_server, args=(theirs,), daemon=True)
    server.start()
    strong = StoreGuarantees(
        create_only=CreateOnly.IF_NONE_MATCH,
        multipart_create_only=CreateOnly.IF_NONE_MATCH,
        checksums=("crc32c", "md5"),
        part_checksums=("crc32c", "md5"),
    )
    uvloop.run(measure("null", f"http://127.0.0.1:{ours.recv()}", "k", "s", options, strong))
    server.terminate()
    server.join()
    if not options.profile:
        with running_seaweed() as weed:
            uvloop.run(
                measure("seaweedfs", weed.endpoint, weed.access_key_id, weed.secret_access_key, options)
            )


if __name__ == "__main__":
    main()
