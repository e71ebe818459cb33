"""Memory is a budget: many large objects of unknown length at once stay within it, and all finish."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from support.store.fake_s3 import FakeS3, running_fake_s3

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
