"""Listed failures over the real Redis: chosen, retried exactly, waived; by the command and by the API."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette

from scheduler import cli
from scheduler.config.load import load_settings
from scheduler.dispatch.dispatcher import Dispatcher
from scheduler.dispatch.failures import Selection, retry, selected
from scheduler.front.admin.failures import routes
from scheduler.rules.yaml.document import parse
from workers.answers import Attempt
from workers.ledger.failures import Failure
from workers.ledger.ledger import Ledger
from workers.plan import FetchItem, Lane, decode_batch
from workers.queue.queue import JobQueue
from workers.settings import BrokerSettings

if TYPE_CHECKING:
    from scheduler.config.settings import Settings
    from scheduler.rules.model import RuleSet

pytestmark = pytest.mark.real

NOW = time.time()


class Rules:
    """One rule for img/, as a source that costs no I/O."""

    def __init__(self) -> None:
        ruleset, _ = parse("rules:\n- name: images\n  prefix: img/\n  origins: [http://o.example]\n")
        self.set = replace(ruleset, bucket="site")

    def snapshot(self, bucket: str) -> RuleSet | None:
        return self.set if bucket == "site" else None


@dataclass
class Services:
    settings: Settings
    ledger: Ledger
    rules: Rules
    queue: JobQueue
    dispatcher: Dispatcher


@pytest.fixture
async def services(valkey_url, tmp_path):
    broker = BrokerSettings(url=valkey_url, namespace="f")
    ledger, queue = Ledger.open(broker), JobQueue.open(broker)
    await ledger.redis.flushall()
    config = tmp_path / "config.yaml"
    config.write_text(
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b}\n"
        f"broker: {{url: '{valkey_url}', namespace: f}}\n"
        "buckets:\n"
        "  site: {rules: [{name: images, prefix: img/, origins: ['http://o.example']}]}\n"
        "  other: {}\n",
    )
    rules = Rules()
    yield Services(
        settings=load_settings(config),
        ledger=ledger,
        rules=rules,
        queue=queue,
        dispatcher=Dispatcher(
            rules=rules,
            ledger=ledger,
            queue=queue,
            buckets={"site": 1, "other": 1},
            max_depth=1000,
        ),
    )
    await ledger.close()
    await queue.close()


def failed(key: str, reason: str = "origin_timeout", *, age_s: float = 0.0, **fields) -> Failure:
    values = {"rule": "images", "message": "no answer", "tries": 5, "last_at": NOW - age_s, **fields}
    return Failure(bucket="site", key=key, reason=reason, **values)


async def queued(services: Services, lane: Lane) -> list:
    """Every batch that stands in a lane."""
    redis = services.queue._redis
    found = []
    async for name in redis.scan_iter():
        text = name.decode() if isinstance(name, bytes) else name
        if text.endswith(f"{lane.value}.msgs"):
            bodies = (await redis.hgetall(name)).values()
            found.extend(decode_batch(json.loads(body)["kwargs"]["batch"]) for body in bodies)
    return found


async def listed(services: Services, bucket: str = "site") -> set[str]:
    return {failure.key async for failure in services.ledger.failures.iterate(bucket)}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {"img/1", "img/2", "css/1", "img/scan"}),
        (Selection(reasons=frozenset({"origin_status"})), {"img/2"}),
        (Selection(prefix="img/"), {"img/1", "img/2", "img/scan"}),
        (Selection(rule="styles"), {"css/1"}),
        (Selection(older_than_s=3600), {"img/2"}),
        (Selection(newer_than_s=3600), {"img/1", "css/1", "img/scan"}),
        (Selection(keys=frozenset({"img/1", "none"})), {"img/1"}),
        (Selection(scan="run-1"), {"img/scan"}),
        (Selection(prefix="img/", reasons=frozenset({"nothing"})), set()),
    ],
)
async def test_selection_means_what_all_its_filters_say(services, selection, expected):
    await services.ledger.failures.add(
        [
            failed("img/1"),
            failed("img/2", "origin_status", age_s=7200),
            failed("css/1", rule="styles"),
            failed("img/scan", scan="run-1", batch=3, item=FetchItem(key="img/scan", path="img/scan")),
        ],
    )
    found = {one.key async for one in selected(services.ledger, ["site", "other"], selection, now=NOW)}
    assert found == expected


async def test_p33_retry_sends_exactly_the_selection(services):
    """P33: three of a thousand; the other failures and everything else stay as they are."""
    await services.ledger.failures.add([failed(f"img/{number}") for number in range(1000)])
    chosen = Selection(keys=frozenset({"img/3", "img/30", "img/300"}))
    rows = [one async for one in selected(services.ledger, ["site"], chosen)]
    report = await retry(services, rows)
    assert (report.retried, report.kept) == (3, ())
    (batch,) = await queued(services, Lane.HOT)
    assert {item.key for item in batch.items} == {"img/3", "img/30", "img/300"}
    assert len(await listed(services)) == 997


async def test_retry_of_a_scan_stays_in_the_accounts_of_the_scan(services):
    items = [FetchItem(key=f"img/{n}", path=f"img/{n}", position=n, size=10) for n in (4, 7)]
    await services.ledger.failures.add(
        [failed(item.key, scan="run-1", batch=12, lane="cold", item=item) for item in items],
    )
    rows = [one async for one in selected(services.ledger, ["site"], Selection())]
    assert (await retry(services, rows)).retried == 2
    (batch,) = await queued(services, Lane.COLD)
    assert (batch.scan, batch.batch, batch.lane) == ("run-1", 12, Lane.COLD)
    assert {(item.key, item.position, item.size, item.attempt) for item in batch.items} == {
        ("img/4", 4, 10, 0),
        ("img/7", 7, 10, 0),
    }
    assert await listed(services) == set()


async def test_p36_failure_that_no_rule_wants_any_more_is_kept_with_the_reason(services):
    """P36: a retry goes by the rules of now."""
    await services.ledger.failures.add([failed("old/1"), failed("img/1")])
    rows = [one async for one in selected(services.ledger, ["site"], Selection())]
    report = await retry(services, rows)
    assert report.retried == 1
    assert report.kept == (("site", "old/1", "unmatched"),)
    assert await listed(services) == {"old/1"}


async def test_failure_that_comes_back_during_the_retry_is_not_lost(services):
    failures = services.ledger.failures
    await failures.add([failed("img/1")])
    versions = await failures.versions("site", ["img/1"])
    await failures.add([failed("img/1", "store_denied", age_s=-5)])
    assert await failures.remove_unchanged("site", versions) == 0
    assert await listed(services) == {"img/1"}


def invoke(services: Services, tmp_path, *arguments: str):
    config = str(tmp_path / "config.yaml")
    return CliRunner().invoke(cli.cli, ["failures", *arguments, "--config", config])


async def test_commands_list_show_export_and_waive(services, tmp_path):
    import asyncio

    attempts = (Attempt(origin="o.example", status=500, duration_s=0.25),)
    await services.ledger.failures.add(
        [failed("img/ä,1", attempts=attempts), failed("img/2", "origin_status", age_s=7200)],
    )

    async def run(*arguments: str):
        return await asyncio.to_thread(invoke, services, tmp_path, *arguments)

    shown = await run("list")
    assert shown.exit_code == 0, shown.output
    assert "site/img/ä,1" in shown.output
    assert "2 failure(s)" in shown.output
    found = json.loads((await run("list", "--reason", "origin_status", "--json")).stdout)
    assert (found["count"], found["failures"][0]["key"]) == (1, "img/2")
    one = await run("show", "site", "img/ä,1")
    assert "asked  o.example: status 500 after 0.250 s" in one.output
    assert (await run("show", "site", "none")).exit_code == 1
    assert (await run("list", "--bucket", "unknown")).exit_code == 2
    assert (await run("list", "--older-than", "soon")).exit_code == 2
    assert (await run("export", "--format", "keys")).stdout.splitlines() == ["img/2", "img/ä,1"]
    rows = list(csv.reader(io.StringIO((await run("export", "--format", "csv")).stdout)))
    assert [row[1] for row in rows] == ["key", "img/2", "img/ä,1"]
    lines = (await run("export", "--prefix", "img/2")).stdout.splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["origin_status"]
    assert (await run("waive", "--because", "x")).exit_code == 2  # nothing chosen
    waived = await run("waive", "--older-than", "1h", "--because", "gone for good", "--by", "ann", "--json")
    assert json.loads(waived.stdout) == {"waived": 1}
    (waiver,) = await services.ledger.failures.waivers("site")
    assert (waiver.key, waiver.reason, waiver.by) == ("img/2", "gone for good", "ann")


async def test_a_key_with_control_characters_is_one_row_and_no_line_of_an_export(services, tmp_path):
    """Exported as a line, `img/a` LF `other` would come back as two keys that nobody chose."""
    import asyncio

    await services.ledger.failures.add(
        [failed("img/a\nother\x1b[2J", "key_not_representable"), failed("b\x85")]
    )

    async def run(*arguments: str):
        return await asyncio.to_thread(invoke, services, tmp_path, *arguments)

    shown = (await run("list")).stdout.splitlines()
    assert sorted(line.rpartition("site/")[2] for line in shown) == ["b\\x85", "img/a\\nother\\x1b[2J"]
    keys = await run("export", "--format", "keys")
    assert keys.stdout == "b\x85\n"
    assert "1 key(s) have control characters" in keys.stderr
    assert "1 failure(s) written" in keys.stderr
    lines = (await run("export")).stdout
    assert "\x85" not in lines
    assert {json.loads(line)["key"] for line in lines.splitlines()} == {"img/a\nother\x1b[2J", "b\x85"}
    whole = (await run("list", "--json")).stdout
    assert {row["key"] for row in json.loads(whole)["failures"]} == {"img/a\nother\x1b[2J", "b\x85"}
    assert "\x85" not in whole


async def test_api_lists_shows_retries_and_waives(services):
    await services.ledger.failures.add([failed("img/a b"), failed("img/2", "origin_status"), failed("old/1")])
    transport = httpx.ASGITransport(app=Starlette(routes=routes(services)))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        everything = (await client.get("/v1/failures")).json()
        assert everything["count"] == 3
        assert everything["reasons"] == {"origin_timeout": 2, "origin_status": 1}
        some = (await client.get("/v1/failures", params={"reason": "origin_status", "limit": 1})).json()
        assert [row["key"] for row in some["failures"]] == ["img/2"]
        counted = (await client.get("/v1/failures", params={"limit": 0})).json()
        assert (counted["count"], counted["failures"]) == (3, [])
        for limit in ("0.5", "-1", "", "x", "9" * 400, "\u0663"):
            assert (await client.get("/v1/failures", params={"limit": limit})).status_code == 400, limit
        one = await client.get("/v1/failures/site/img/a%20b")
        assert one.json()["reason"] == "origin_timeout"
        assert (await client.get("/v1/failures/site/none")).status_code == 404
        assert (await client.get("/v1/failures", params={"bucket": "none"})).status_code == 404
        assert (await client.get("/v1/failures", params={"raeson": "x"})).status_code == 400
        order = await client.post("/v1/failures/retry", json={"bucket": "site"})
        assert order.json()["error"]["code"] == "nothing_chosen"
        order = await client.post("/v1/failures/retry", json={"bucket": "site", "keyz": ["a"]})
        assert order.json()["error"]["code"] == "bad_value"
        for body in ({"older_than_s": False}, {"older_than_s": "7"}, {"all": "yes"}, {"keys": "img/2"}):
            order = await client.post("/v1/failures/waive", json={"bucket": "site", "because": "x", **body})
            assert (order.status_code, order.json()["error"]["code"]) == (400, "bad_value"), body
        order = await client.post("/v1/failures/retry", content=b"{")
        assert order.json()["error"]["code"] == "bad_json"
        order = await client.post("/v1/failures/retry", json={"bucket": "site", "keys": ["img/a b", "old/1"]})
        assert order.status_code == 202
        assert order.json() == {
            "retried": 1,
            "kept": [{"bucket": "site", "key": "old/1", "why": "unmatched"}],
        }
        order = await client.post(
            "/v1/failures/waive",
            json={"bucket": "site", "prefix": "old/", "because": "was a test"},
        )
        assert order.json() == {"waived": 1}
    assert await listed(services) == {"img/2"}
