"""Large objects through the gateway, both ways: they stream, and no side runs ahead of the other."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]
MIB = 1024 * 1024
SIZE = 256 * MIB
#: Client and gateway are this one process; a body that was kept would be twice its size.
GROWTH = 64 * MIB


def resident() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@contextlib.asynccontextmanager
async def growth():
    """The most that this process has grown while the block ran, as a list of one."""
    before, most = resident(), [0]

    async def watch():
        while True:
            most[0] = max(most[0], resident() - before)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()


async def test_256_mib_up_and_down_take_no_memory(start, caller):
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/large"
    block = os.urandom(MIB)
    sent, got = hashlib.sha256(), hashlib.sha256()

    async def body():
        for _ in range(SIZE // MIB):
            sent.update(block)
            yield block

    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD")
    headers["content-length"] = str(SIZE)
    async with growth() as up, front.session.put(front.url("/large"), data=body(), headers=headers) as answer:
        assert answer.status == 200, await answer.read()
    assert up[0] < GROWTH, up[0] / MIB
    headers = s3.signed("GET", path, payload="UNSIGNED-PAYLOAD")
    async with growth() as down, front.session.get(front.url("/large"), headers=headers) as answer:
        async for chunk in answer.content.iter_chunked(MIB):
            got.update(chunk)
    assert got.digest() == sent.digest()
    assert down[0] < GROWTH, down[0] / MIB


async def test_a_client_that_reads_slowly_holds_the_store_back(start, caller):
    front = await start()
    s3, path = caller(front), f"/{front.bucket}/large"
    block = bytes(MIB)

    async def body():
        for _ in range(100):
            yield block

    headers = s3.signed("PUT", path, payload="UNSIGNED-PAYLOAD")
    headers["content-length"] = str(100 * MIB)
    async with front.session.put(front.url("/large"), data=body(), headers=headers) as answer:
        assert answer.status == 200
    headers = s3.signed("GET", path, payload="UNSIGNED-PAYLOAD")
    async with growth() as slow:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, limit=65536)
        lines = [f"GET {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "connection: close"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(1)  # nothing is read: what the gateway takes meanwhile it would have to keep
        kept = slow[0]
        writer.close()
    assert kept < 32 * MIB, kept / MIB
