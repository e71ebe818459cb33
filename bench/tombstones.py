"""Tombstones of deleted keys: their memory in Redis, and what a miss costs beside them.

One real Valkey holds none, another one `--keys` of them, put as multi-deletes of 1,000 keys put them. A miss
is what a front asks of it: a claim taken and given back, one after the other; both servers in turns.

    .venv/bin/python bench/tombstones.py [--keys 1000000] [--misses 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from scheduler.front.s3.tombstones import Tombstones
from support.valkey import running_valkey
from workers.ledger.claims import RunState, WantedKey
from workers.ledger.ledger import Ledger
from workers.settings import BrokerSettings

BUCKET = "site"
#: As a site's keys look: 36 bytes.
KEY = "images/2025/04/product-{:010d}.jpg"
#: Keys of one multi-delete.
AT_ONCE = 1000
#: Most bytes that one may take.
TARGET_BYTES = 150
ROUNDS = 10


async def memory(redis: Any) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def misses_us(ledger: Ledger, name: str, count: int) -> tuple[float, float]:
    """Microseconds of one miss of a key that nobody has deleted, at the front and in the server."""
    await ledger.redis.config_resetstat()
    began = time.perf_counter()
    for number in range(count):
        key = f"missing/{name}/{number}"
        states = await ledger.claims.start_wanted([WantedKey(BUCKET, key)], owner="front-bench")
        assert states == [RunState.STARTED]
        await ledger.claims.release(BUCKET, [key], owner="front-bench")
    took = (time.perf_counter() - began) / count * 1e6
    scripts = (await ledger.redis.info("commandstats"))["cmdstat_evalsha"]
    return took, scripts["usec"] / count


async def bury(ledger: Ledger, keys: int) -> float:
    """Put so many tombstones; microseconds of one."""
    tombstones = Tombstones(ledger.claims, wait_s=1)
    began = time.perf_counter()
    for at in range(0, keys, AT_ONCE):
        some = [KEY.format(number) for number in range(at, min(keys, at + AT_ONCE))]
        await tombstones.keep(await tombstones.bury(BUCKET, some, request_id=f"{at:024X}"))
    return (time.perf_counter() - began) / keys * 1e6


async def run(urls: tuple[str, str], keys: int, misses: int) -> None:
    none, many = (Ledger.open(BrokerSettings(url=url, namespace="ferryman")) for url in urls)
    try:
        before = await memory(many.redis)
        put_us = await bury(many, keys)
        each = (await memory(many.redis) - before) / keys
        print(
            f"memory of one ({len(BUCKET) + len(KEY.format(0))} bytes of bucket and key): {each:.0f} bytes, ",
            end="",
        )
        print(f"target {TARGET_BYTES}: {'ok' if each <= TARGET_BYTES else 'MISSED'}")
        print(f"putting one of a multi-delete of {AT_ONCE:,}: {put_us:.0f} µs")
        for ledger in (none, many):
            await misses_us(ledger, "warm", misses // ROUNDS)
        figures = [
            (
                await misses_us(none, f"{turn}", misses // ROUNDS),
                await misses_us(many, f"{turn}", misses // ROUNDS),
            )
            for turn in range(ROUNDS)
        ]
        for at, where in ((0, "seen by a front, one after the other"), (1, "in the server")):
            without, beside = (median(turn[side][at] for turn in figures) for side in (0, 1))
            ratio = median(turn[1][at] / turn[0][at] for turn in figures)
            many_of = f"beside {keys:,} tombstones {beside:.0f} µs"
            print(f"a miss {where}: {without:.0f} µs, {many_of}; ratio {ratio:.2f}")
    finally:
        await none.close()
        await many.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--misses", type=int, default=20_000)
    options = parser.parse_args()
    with running_valkey() as none, running_valkey() as many:
        asyncio.run(run((none, many), options.keys, options.misses))


if __name__ == "__main__":
    main()
