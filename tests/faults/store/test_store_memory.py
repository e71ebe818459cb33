"""Memory is a budget: many large objects of unknown length at once stay within it, and all finish."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.stores import meta_of, store_at
from workers.store.guarantees import StoreGuarantees

MIB = 1024 * 1024
TESTS = Path(__file__).parents[2]


async def load(concurrency: int, mib_each: int, budget_mib: int) -> dict:
    async with running_fake_s3(FakeS3(discard=True)) as fake:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "support.store.upload_load", fake.endpoint, str(concurrency), str(mib_each),
            str(budget_mib), cwd=TESTS, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert fake.uploads == {}
        return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("known", [True, False])
async def test_four_large_objects_hold_two_parts_each_and_one_alone_holds_three(known):
    """Of many each fills one part while another is sent; one alone sends two meanwhile. All bytes arrive."""
    size, part = 40 * MIB, 8 * MIB

    async def one(store, key):
        meta = meta_of(key)
        async with store.upload("site", key, meta, attempt=key, size=size if known else None) as upload:
            for _ in range(size // MIB):
                await upload.write(bytes(MIB))
                await asyncio.sleep(0)
            return (await upload.commit()).size

    async with running_fake_s3(FakeS3(discard=True, takes_s={"part": 0.2})) as fake:
        for keys, parts in (("abcd", 8), ("e", 3)):
            async with store_at(fake.endpoint, part_size_bytes=part) as store:
                store.assume("site", StoreGuarantees(checksums=("crc32c",), part_checksums=("crc32c",)))
                assert await asyncio.gather(*(one(store, key) for key in keys)) == [size] * len(keys)
                assert store.memory.peak_bytes == parts * part
                assert store.memory.used_bytes == 0
                assert store.part_turns.each == 2, "who has ended is not counted"


@pytest.mark.parametrize(
    ("budget_mib", "mib_each"),
    [(64, 12), (256, 16)],
)
async def test_64_large_objects_of_unknown_length_stay_within_the_budget(budget_mib, mib_each):
    """Several times the budget in all; no deadlock on half-filled parts; RSS within budget + 120 MiB."""
    result = await load(64, mib_each, budget_mib)
    assert result["sizes"] == [mib_each * MIB]
    assert result["count"] == 64
    assert result["budget_peak"] <= budget_mib * MIB
    assert result["budget_left"] == 0
    assert result["peak"] <= (budget_mib + 120) * MIB, result
