"""Multipart uploads of killed processes do not stay: P41."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.machine.sweeping import sweep_when_due
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.store.listing import list_uploads
from workers.store.metadata import object_meta

pytestmark = pytest.mark.real


async def open_uploads(fleet):
    store = fleet.services.store
    found = list_uploads(store.transport, fleet.bucket, "", headers=store.common_headers)
    return [upload.key async for upload in found]


async def test_p41_an_upload_that_was_left_open_is_swept_once_it_is_stale(idle_fleet):
    fleet = idle_fleet
    store = fleet.services.store
    plan = FetchPlan(bucket=fleet.bucket, rule="r", groups=(OriginGroup(primary=Origin(host="o")),))
    meta = object_meta((), plan, key="big.bin", url="http://o/big.bin", attempt="dead", fetched_at="x")
    # As a killed process leaves it: begun, parts sent, never ended.
    upload = store.upload(fleet.bucket, "big.bin", meta, attempt="dead", size=None)
    await upload.__aenter__()
    block = b"x" * (1 << 20)
    for _ in range(20):
        await upload.write(block)
    await asyncio.wait(upload._assembly._sending)
    assert await open_uploads(fleet) == ["big.bin"]
    assert await sweep_when_due(fleet.services) == 0, "it is young"
    assert await open_uploads(fleet) == ["big.bin"]
    await fleet.services.redis.delete(f"ferryman:sweep:{fleet.bucket}")
    assert await sweep_when_due(fleet.services, stale_s=-1) == 1
    assert await open_uploads(fleet) == []
    assert await sweep_when_due(fleet.services, stale_s=-1) == 0, "somebody swept within the hour"
    await upload.__aexit__(None, None, None)
