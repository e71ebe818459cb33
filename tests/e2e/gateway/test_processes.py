"""Two real front processes on one port, started by the command line as an operator does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid

import aiohttp
import pytest
import yaml

from scheduler.config.ports import free_ports

pytestmark = [pytest.mark.real, pytest.mark.slow]

BODY = os.urandom(400_000)


async def test_p25_a_herd_over_two_processes_that_share_a_port_is_one_fetch(
    seaweed, valkey_url, chaos, mirror, bucket, tmp_path
):
    """A24, P25, and a stop that ends every process."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=100000,interval=0.3")
    port, admin = free_ports(2)
    config = tmp_path / "config.yaml"
    settings = {
        "gateway": {"listen": f"127.0.0.1:{port}", "processes": 2},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "store": {
            "endpoint": seaweed.endpoint,
            "access_key_id": seaweed.access_key_id,
            "secret_access_key": seaweed.secret_access_key,
        },
        "broker": {"url": valkey_url, "namespace": f"t{uuid.uuid4().hex[:8]}"},
        "buckets": {bucket: {"rules": [mirror()]}},
        "limits": {"drain_s": 2},
        "data_dir": str(tmp_path / "data"),
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    log = (tmp_path / "front.log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-m", "scheduler.cli", "front", "--config", str(config)], stdout=log, stderr=log
    )
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True)
        ) as session:
            url = f"http://127.0.0.1:{port}/{bucket}"
            deadline = asyncio.get_running_loop().time() + 40
            while True:
                assert process.poll() is None, (tmp_path / "front.log").read_text()[-3000:]
                try:
                    async with session.get(f"{url}/ready") as response:
                        if response.status == 404:
                            break
                except aiohttp.ClientError:
                    assert asyncio.get_running_loop().time() < deadline, (tmp_path / "front.log").read_text()
                await asyncio.sleep(0.1)

            async def get():
                async with session.get(f"{url}/k") as response:
                    return response.status, await response.read()

            replies = await asyncio.gather(*(get() for _ in range(200)))
            assert all(reply == (200, BODY) for reply in replies)
            assert chaos.count("/k") == 1
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0, (tmp_path / "front.log").read_text()[-3000:]
        finally:
            process.kill()
            log.close()
