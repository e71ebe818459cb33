"""A process that uploads many large objects of unknown length at once and says what memory that took.

python -m support.store.upload_load ENDPOINT CONCURRENCY MIB_EACH BUDGET_MIB
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from support.store.stores import MIB, meta_of
from workers.settings import LimitSettings, StoreSettings
from workers.store.client import ObjectStore
from workers.store.guarantees import StoreGuarantees


def peak_rss_bytes() -> int:
    """The most this process ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")


async def main(endpoint: str, concurrency: int, mib_each: int, budget_mib: int) -> None:
    settings = StoreSettings(endpoint=endpoint, access_key_id="a", secret_access_key="b")
    limits = LimitSettings(memory_bytes=budget_mib * MIB)
    async with ObjectStore(settings, limits) as store:
        store.assume("site", StoreGuarantees(checksums=("crc32c",), part_checksums=("crc32c",)))
        before = peak_rss_bytes()

        async def one(number: int) -> int:
            async with store.upload(
                "site", f"k{number}", meta_of(str(number)), attempt=str(number), size=None
            ) as up:
                for _ in range(mib_each * 16):
                    await up.write(os.urandom(16) + bytes(64 * 1024 - 16))
                    await asyncio.sleep(0)
                return (await up.commit()).size

        sizes = await asyncio.gather(*(one(number) for number in range(concurrency)))
        sys.stdout.write(
            json.dumps(
                {
                    "before": before,
                    "peak": peak_rss_bytes(),
                    "sizes": sorted(set(sizes)),
                    "count": len(sizes),
                    "budget_peak": store.memory.peak_bytes,
                    "budget_left": store.memory.used_bytes,
                },
            ),
        )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
