"""`ferryman origins` and `ferryman status` over a real Valkey, as an operator runs them."""

from __future__ import annotations

import asyncio
import http.server
import threading
from functools import partial

import orjson
import pytest
from click.testing import CliRunner

from scheduler.commands.origins import command as origins
from scheduler.commands.status import command as status
from workers.errors import OriginUnreachable
from workers.ledger.ledger import Ledger
from workers.origin.control.control import OriginControl
from workers.plan import Lane
from workers.settings import BrokerSettings, BudgetSettings, OriginSettings

pytestmark = pytest.mark.real

A, B = "a.example", "b.example"


@pytest.fixture
def config(tmp_path, valkey_url):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}/data\n"
        f"broker: {{url: '{valkey_url}', ledger_db: 5, namespace: {tmp_path.name}}}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b}\n"
        "buckets: {site: {}}\n"
    )
    broker = BrokerSettings(url=valkey_url, ledger_db=5, namespace=tmp_path.name)

    async def live_a_little() -> None:
        """A process that asked two origins, and is killed: its report stays for a while."""
        ledger = Ledger.open(broker)
        budgets = {A: BudgetSettings(concurrency=4, bytes_per_s="20MB/s")}
        control = OriginControl(OriginSettings(budgets=budgets), redis=ledger.redis, namespace=tmp_path.name)
        async with await control.acquire(A, Lane.HOT, timeout_s=5):
            control.succeeded(A, 0.02)
        for _ in range(5):
            control.failed(B, OriginUnreachable("refused", origin=B))
        await control._sync()
        await ledger.close()

    asyncio.run(live_a_little())
    return str(path)


@pytest.fixture
def web(tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.bin").write_bytes(b"x" * 1000)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args) -> None: ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_origins_tells_state_budget_and_latency(config):
    result = CliRunner().invoke(origins, ["--config", config, "--json"])
    assert result.exit_code == 0, result.output
    first, second = orjson.loads(result.stdout)["origins"]
    assert (first["host"], first["state"], first["answers"]) == (A, "well", 1)
    assert (first["concurrency"], first["bytes_per_s"]) == (4, 20e6)
    assert 0.01 < first["p50_s"] < 0.03
    assert (second["host"], second["state"], second["ejections"], second["cause"]) == (
        B,
        "out",
        1,
        "failures",
    )
    assert 20 < second["out_s"] <= 30


def test_origins_is_a_table_for_people(config):
    result = CliRunner().invoke(origins, ["--config", config])
    assert result.exit_code == 0
    for words in (A, B, "well", "out"):
        assert words in result.stdout


def test_origins_without_redis_says_so_and_exits_1(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("broker: {url: 'redis://127.0.0.1:1/0'}\nstore: {endpoint: 'http://127.0.0.1:1'}\n")
    result = CliRunner().invoke(origins, ["--config", str(path)])
    assert result.exit_code == 1
    assert "broker.url" in result.output


def test_a_url_is_probed(config, web):
    result = CliRunner().invoke(origins, ["--config", config, "probe", "--json", f"{web}/a.bin"])
    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)
    assert (report["status"], report["length"], report["missing_status"]) == (200, 1000, 404)
    assert report["ranges"] == "ignored"


def test_a_url_that_cannot_be_reached_exits_1_and_one_that_is_none_2(config):
    assert CliRunner().invoke(origins, ["--config", config, "probe", "http://127.0.0.1:1/x"]).exit_code == 1
    assert CliRunner().invoke(origins, ["--config", config, "probe", "ftp://x/y"]).exit_code == 2


def test_status_is_one_screen_or_json(config):
    result = CliRunner().invoke(status, ["--config", config])
    assert result.exit_code == 0, result.output
    assert "Queues" in result.stdout
    assert A in result.stdout
    found = orjson.loads(CliRunner().invoke(status, ["--config", config, "--json"]).stdout)
    assert [queue["lane"] for queue in found["queues"]] == ["hot", "cold"]
    assert found["problems"] == {}


def test_status_refuses_to_watch_in_json():
    assert CliRunner().invoke(status, ["--watch", "--json"]).exit_code == 2
