"""/metrics, /healthz and /readyz of a worker's supervisor or a consumer, over a real Valkey."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from scheduler.config.load import load_settings
from scheduler.front.admin.standalone import serving
from scheduler.machine.processes import LaneSize, worker_group
from workers.errors import ConfigError, OriginUnreachable
from workers.ledger.ledger import Ledger
from workers.origin.control.control import OriginControl
from workers.plan import Lane
from workers.queue.queue import JobQueue
from workers.settings import OriginSettings
from workers.telemetry import metric_files

pytestmark = pytest.mark.real


def settings_of(tmp_path, valkey_url, listen: str | None = "127.0.0.1:0"):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}/data\n"
        f"broker: {{url: '{valkey_url}', ledger_db: 6, namespace: {tmp_path.name}}}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b, max_retries: 0}\n"
        f"metrics: {{worker_listen: {listen or 'null'}}}\n"
        "buckets: {}\n"
    )
    return load_settings(path, env={})


async def test_a_worker_answers_and_is_ready_while_an_origin_is_well(tmp_path, valkey_url):
    settings = settings_of(tmp_path, valkey_url)
    async with (
        serving(settings, "worker") as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json() == {"ready": True, "problems": {}}
        assert "ferryman_claims_total" in (await client.get("/metrics")).text
        ledger = Ledger.open(settings.broker)
        control = OriginControl(OriginSettings(), redis=ledger.redis, namespace=settings.broker.namespace)
        for _ in range(5):
            control.failed("a.example", OriginUnreachable("refused", origin="a.example"))
        await control._sync()
        async with asyncio.timeout(10):
            while (answer := await client.get("/readyz")).status_code == 200:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.1)
        await ledger.close()
        assert "a.example" in answer.json()["problems"]["origins"]


async def test_workers_that_give_no_signs_of_life_make_it_unready(tmp_path, valkey_url):
    settings = settings_of(tmp_path, valkey_url)
    group = worker_group(settings, Lane.HOT, LaneSize(processes=1))
    queue = JobQueue.open(settings.broker)
    async with (
        serving(settings, "worker", workers=[group]) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["problems"] == {"workers hot": "0 of 1 worker processes give signs of life"}
        await queue.heartbeat("w", member=f"{group.name}:{os.getpid()}")
        async with asyncio.timeout(10):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.1)
    await queue.close()


async def test_an_installation_without_a_front_tells_its_queues_here(tmp_path, valkey_url):
    settings = settings_of(tmp_path, valkey_url)
    async with (
        serving(settings, "worker") as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        text = (await client.get("/metrics")).text
    assert 'ferryman_queue_depth{queue="hot"} 0.0' in text
    assert 'ferryman_queue_oldest_age_seconds{queue="cold"} 0.0' in text
    assert "\nferryman_workers 0.0" in text


async def test_nothing_is_served_where_no_address_is_set(tmp_path, valkey_url):
    async with serving(settings_of(tmp_path, valkey_url, None), "worker") as address:
        assert address is None


@pytest.mark.parametrize("kind", ["front", "worker", "consumer"])
async def test_every_kind_of_process_has_its_own_address(tmp_path, valkey_url, kind):
    settings = settings_of(tmp_path, valkey_url, None)
    section = settings.metrics.model_copy(update={f"{kind}_listen": "127.0.0.1:0"})
    settings = settings.model_copy(update={"metrics": section})
    async with (
        serving(settings, kind) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200, path


async def test_an_address_in_use_names_its_setting(tmp_path, valkey_url):
    async with serving(settings_of(tmp_path, valkey_url), "worker") as address:
        with pytest.raises(ConfigError, match=r"metrics\.worker_listen"):
            async with serving(settings_of(tmp_path, valkey_url, address), "worker"):
                pass


def test_the_counts_of_a_consumer_that_has_ended_are_those_of_the_machine(tmp_path, valkey_url):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data_dir: {tmp_path}/data\n"
        f"broker: {{url: '{valkey_url}', ledger_db: 6, namespace: {tmp_path.name}}}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b, max_retries: 0}\n"
        "buckets: {site: {rules: [{origins: ['http://127.0.0.1:1']}]}}\n"
    )
    log = tmp_path / "access.log"
    log.write_text('10.0.0.1 - - [21/Nov/2026:07:00:00 +0000] "GET /k HTTP/1.1" 404 10 "-" "curl"\n')
    environment = {name: text for name, text in os.environ.items() if name != metric_files.ENV}
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "scheduler.cli", "consume", str(log), "--once"),
            *("--bucket", "site", "--config", str(config)),
        ],
        check=True,
        capture_output=True,
        env=environment,
        timeout=60,
    )
    (place,) = (tmp_path / "data" / "metrics").iterdir()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(place))
    lines = {"log": str(log), "result": "miss"}
    assert registry.get_sample_value("ferryman_consumer_lines_total", lines) == 1
    events = {"source": "log", "result": "accepted"}
    assert registry.get_sample_value("ferryman_miss_events_total", events) == 1
