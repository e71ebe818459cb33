"""`ferryman report` over what real consumers and gateways saw."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import pytest

from scheduler.run_settings import write_run_settings

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


async def ferryman(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "scheduler.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def test_misses_of_a_log_stand_in_the_report_with_who_asked(idle_fleet):
    fleet = idle_fleet
    now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    log = fleet.tmp_path / "access.log"
    line = '{} - - [{}] "GET /img/2024/{}.png HTTP/1.1" {} 9 "https://shop.example/page?q=1" "curl/8.5 x"\n'
    lines = [line.format("192.0.2.1", now, number, 404) for number in range(5)]
    log.write_text("".join([*lines, line.format("192.0.2.1", now, "there", 200)]))
    config = str(write_run_settings(fleet.settings, "test"))
    await ferryman(
        "consume", str(log), "--format", "combined", "--bucket", fleet.bucket, "--from-start", "--once",
        "--config", config,
    )  # fmt: skip
    report = json.loads(await ferryman("report", "--json", "--config", config))
    said = json.dumps(report)
    assert "img/2024/" in said
    assert "shop.example/page" in said
    assert "curl/8.5" in said
    assert "q=1" not in said, "no query stands in a report"
    assert "there" not in said
