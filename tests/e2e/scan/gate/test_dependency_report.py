"""`ferryman report` over what real consumers and gateways saw."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request

import pytest

from scheduler.config.run_settings import write_run_settings
from support.installation import fetch, plain_environment, running_origin, running_up, until
from support.patience import PATIENCE_S

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


def test_misses_that_the_gateway_answers_stand_in_the_report_with_who_asked(tmp_path):
    with running_origin() as origin, running_up(tmp_path, origin.url) as up:
        origin.bodies.update({f"img/2024/{number}.png": b"picture" for number in range(4)})
        headers = {"Referer": "https://shop.example/page?session=1", "User-Agent": "Mozilla/5.0 (X11)"}
        for key in [*origin.bodies, "wp-login.php"]:
            fetch(urllib.request.Request(f"{up.gateway}/site/{key}", headers=headers), PATIENCE_S)
        until(lambda: all(up.stored("site", key) for key in origin.bodies), "all are stored")
        hit = fetch(urllib.request.Request(f"{up.gateway}/site/img/2024/1.png", headers=headers), PATIENCE_S)
        assert hit[0] == 200

        def report():
            ended = subprocess.run(
                [sys.executable, "-P", "-m", "scheduler.cli", "report", "--json", "--since", "1h"],
                check=True, capture_output=True, cwd=tmp_path,
                env={**plain_environment(), "FERRYMAN_DATA_DIR": str(up.data_dir)},
            )  # fmt: skip
            (found,) = json.loads(ended.stdout)
            return found

        until(lambda: report()["misses"] >= 4, "the front has written what it counted")
        found = report()
        assert found["misses"] == 4, "neither a hit nor a key that no origin has needed it"
        assert found["prefixes"] == [["img/2024/", 4]]
        assert found["referrers"] == [["shop.example/page", 4]]
        assert found["agents"] == [["Mozilla/5.0", 4]]
        assert found["curve"][-1][1] + found["curve"][0][1] >= 4
