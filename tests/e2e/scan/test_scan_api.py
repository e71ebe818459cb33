"""`/v1/scans`, the page and `ferryman status` say the same of a scan."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from scheduler.front.admin import scans
from scheduler.front.admin.dashboard import pages
from scheduler.front.admin.dashboard.board import Board
from scheduler.front.admin.guard import Guard
from scheduler.runtime import open_services
from scheduler.scan.record.shard import KeyRange, Shard
from scheduler.scan.record.state import ScanState
from scheduler.scan.service import ScanService, scan_options
from scheduler.scan.shards.records import ShardStates
from scheduler.status import collect, to_json

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
async def fleet(idle_fleet):
    """Nearly nothing here needs a worker; who does starts it."""
    return idle_fleet


@pytest.fixture
async def api(fleet):
    async with Board(fleet.services) as board:
        app = Starlette(routes=[*scans.routes(fleet.services), *pages.routes(fleet.services, board)])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(Guard(app, "t")),
            base_url="http://admin",
            headers={"authorization": "Bearer t"},
        ) as client:
            yield client


async def test_the_list_of_scans_comes_in_pages_newest_first(fleet, api):
    options = {"bucket": fleet.bucket, "inventory": {"manifest": "m"}}
    for number in range(5):
        given = scan_options(fleet.settings, f"s{number}", options)
        state = ScanState(
            name=f"s{number}", run=f"s{number}-r", options=given, phase="done", requested_at=10.0 + number
        )
        await fleet.scans.states.put(state)
    answer = await api.get("/v1/scans", params={"limit": 2})
    found = [[one["name"] for one in answer.json()]]
    while "next" in answer.links:
        answer = await api.get(answer.links["next"]["url"])
        assert answer.headers["x-total-count"] == "5"
        found.append([one["name"] for one in answer.json()])
    assert found == [["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert [one["name"] for one in (await api.get("/v1/scans")).json()] == ["s4", "s3", "s2", "s1", "s0"]
    for wrong in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "x"}):
        answer = await api.get("/v1/scans", params=wrong)
        assert (answer.status_code, "expected" in answer.json()["error"]) == (400, True), wrong


async def test_the_page_of_a_scan_that_is_cut_names_the_ranges_that_are_not_done(fleet, api):
    given = scan_options(fleet.settings, "s", {"bucket": fleet.bucket, "inventory": {"manifest": "m"}})
    scan = ScanState(
        name="s", run="s-0123456789ab", options=given, phase="compare", shards=3, collation="bytes"
    )
    await fleet.scans.states.put(scan)
    states = ShardStates(fleet.services.redis, namespace=fleet.settings.broker.namespace, run=scan.run)
    records = []
    for number, (begin, end, phase) in enumerate(
        (("", "d", "done"), ("d", "m", "compare"), ("m", None, "requested"))
    ):
        shard = Shard(number=number, range=KeyRange(begin=begin, end=end), expected=500, worker="host:7")
        record = replace(
            scan, name=states.name(number), phase=phase, shards=0, shard=shard, active_s=90.0 - number
        )  # fmt: skip
        records.append(record)
    assert await fleet.scans.states.acquire("s", "t")
    assert await states.cut(scan, "t", records)
    assert await states.acquire(states.name(1), "host:7:x")
    text = re.sub(r"<[^>]*>", " ", (await api.get("/scans", params={"name": "s"})).text)
    text = " ".join(text.split())
    assert "3: 1 done, 1 running, 1 waiting; they join without gap or overlap; slowest from d" in text
    rows = text.partition("the slowest first")[2].partition("By prefix")[0]
    assert "by d running 0 500 89 s host:7 m waiting 0 500 88 s host:7" in rows, rows


async def test_a_scan_is_started_read_and_ordered_over_http(fleet, api):
    await fleet.start_worker()
    fleet.origin.bodies.update({"a.txt": b"x", "b.txt": b"yy"})
    body = {
        "name": "s",
        "bucket": fleet.bucket,
        "inventory": {"manifest": fleet.manifest(fleet.origin.bodies)},
        "windows": ["00:00-24:00"],
        "max_age_days": 9,
    }
    answer = await api.post("/v1/scans", json=body)
    assert (answer.status_code, answer.json()["phase"]) == (202, "requested"), answer.text
    again = await api.post("/v1/scans", json=body)
    assert again.json()["run"] == answer.json()["run"], "the same request means the same run"
    other = await api.post("/v1/scans", json={**body, "limit": 1})
    assert (other.status_code, "other options" in other.json()["error"]) == (400, True)
    assert (await api.post("/v1/scans/s/pause")).status_code == 202
    assert (await api.post("/v1/scans/s/resume")).status_code == 202
    assert await ScanService(fleet.services).coordinate("s")
    report = (await api.get("/v1/scans/s")).json()
    assert (report["phase"], report["total"]["stored"], report["total"]["bytes"]) == ("done", 2, 3)
    assert report["progress"]["settled"] == report["progress"]["expected"] == 2
    assert (await api.get("/v1/scans")).json() == [report]
    (status,) = to_json(await collect(fleet.services))["scans"]
    assert status == {name: report[name] for name in status}, "one schema everywhere"
    shown = (await api.get("/scans")).text
    assert fleet.bucket in shown.split("<tbody>")[1]
    assert "100\u202f% moved" in (await api.get("/")).text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/scans", b"not json", 400),
        ("POST", "/v1/scans", b"[]", 400),
        ("POST", "/v1/scans", b'{"name": "s", "bucket": "unknown", "inventory": {"manifest": "m"}}', 400),
        ("POST", "/v1/scans", b'{"name": "s", "windows": ["never"]}', 400),
        ("POST", "/v1/scans", b'{"name": "s", "dryrun": true}', 400),
        ("POST", "/v1/scans", b'{"name": "s", "limit": "many"}', 400),
        ("POST", "/v1/scans", b'{"name": "../s"}', 400),
        ("GET", "/v1/scans/none", None, 404),
        ("POST", "/v1/scans/none/pause", None, 404),
        ("POST", "/v1/scans/none/stop", None, 400),
    ],
)
async def test_what_is_wrong_is_said(api, method, path, body, status):
    answer = await api.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_an_ended_scan_takes_no_order(fleet, api):
    await fleet.start_worker()
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    assert (await api.post("/v1/scans/s/cancel")).status_code == 409


def test_the_record_of_the_status_has_only_names_of_the_scan_report():
    from scheduler.status import ScanStatus

    names = {field.name for field in dataclasses.fields(ScanStatus)}
    assert names == {"name", "bucket", "phase", "paused", "total", "progress", "waiting", "error", "shards"}


async def test_a_misspelt_option_is_named_and_starts_nothing(fleet, api):
    body = {
        "name": "s", "bucket": fleet.bucket, "inventory": {"manifest": fleet.manifest(["a"])}, "dryrun": True,
    }  # fmt: skip
    answer = await api.post("/v1/scans", json=body)
    assert answer.status_code == 400
    assert "unknown option 'dryrun'; known: bucket, " in answer.json()["error"]
    assert (await api.get("/v1/scans")).json() == []


async def test_without_redis_the_answer_is_503_with_the_reason(fleet):
    settings = fleet.settings.model_copy(
        update={"broker": fleet.settings.broker.model_copy(update={"url": "redis://127.0.0.1:9/0"})}
    )
    async with open_services(settings) as services:
        app = Starlette(routes=scans.routes(services))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
            body = {"name": "s", "bucket": fleet.bucket, "inventory": {"manifest": "m"}}
            answers = [
                await client.get("/v1/scans"), await client.get("/v1/scans/s"),
                await client.post("/v1/scans", json=body), await client.post("/v1/scans/s/pause"),
            ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all("ledger" in answer.json()["error"] for answer in answers)


async def test_keys_behind_the_counts_are_named_over_http_and_on_the_page(fleet, api):
    await fleet.start_worker()
    keys = [f"a/{n:03}" for n in range(104)] + ["<script>alert(1)</script>\u202e"]
    await fleet.scan("s", keys, max_absent=1.0)
    some = (await api.get("/v1/scans/s/keys?term=absent")).json()
    assert (len(some["keys"]), some["more"], some["keys"][0]["term"]) == (100, True, "absent")
    every = (await api.get("/v1/scans/s/keys?limit=1000")).json()
    assert ({row["key"] for row in every["keys"]}, every["more"]) == (set(keys), False)
    for query, status in (("s/keys?term=nope", 400), ("s/keys?limit=0", 400), ("other/keys", 404)):
        assert (await api.get(f"/v1/scans/{query}")).status_code == status, query
    page = (await api.get("/scans/keys?name=s&term=absent")).text
    assert "ferryman scan keys s --absent" in page
    assert page.count('<td class="key">') == 100
    assert "<script>alert" not in page
    assert "\u202e" not in page
    nobody = (await api.get("/scans/keys?name=%3Cb%3E")).text
    assert "There is no scan &#39;&lt;b&gt;&#39;." in nobody
    assert '<a href="/scans/keys?name=s&amp;term=absent">' in (await api.get("/scans")).text
