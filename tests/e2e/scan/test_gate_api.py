"""`/v1/gate` and `/v1/reports` do what `ferryman finalize` does, for whoever types the scan's name."""

from __future__ import annotations

import time

import httpx
import pytest
from starlette.applications import Starlette

from scheduler.front.admin import gate
from scheduler.front.admin.dashboard import pages
from scheduler.front.admin.dashboard.board import Board
from scheduler.front.admin.guard import Guard
from scheduler.scan.verify.verify import Verifier

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
EVIL = "<script>alert(1)</script>\u202e"


@pytest.fixture
async def api(fleet):
    async with Board(fleet.services) as board:
        app = Starlette(routes=[*gate.routes(fleet.services), *pages.routes(fleet.services, board)])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(Guard(app, "t", viewer_token="v")),
            base_url="http://admin",
            headers={"authorization": "Bearer t"},
        ) as client:
            yield client


async def proved(fleet):
    """All is moved and verified, and the ledger is an hour old."""
    fleet.origin.bodies["a.txt"] = b"x"
    await fleet.scan("s", ["a.txt"])
    await Verifier(fleet.services, await fleet.scans.states.get("s"), seed=1).run()
    await fleet.services.redis.set("ferryman:born", repr(time.time() - 3600))


async def test_the_gate_is_looked_at_passed_and_taken_back_and_the_report_can_be_opened(fleet, api):
    await proved(fleet)
    looked = (await api.get("/v1/gate/s?quiet=1s")).json()
    by_name = {one["name"]: one for one in looked["conditions"]}
    assert set(by_name) >= {"scan_complete", "verify_clean", "no_misses", "watched_all_the_time"}
    assert by_name["scan_complete"]["ok"]
    assert looked["open"] is False, "nobody watches in this fleet"
    shut = await api.post("/v1/gate/s/finalize", json={"confirm": "s", "quiet": "1s"})
    assert (shut.status_code, shut.json()["error"]["code"]) == (409, "gate_shut")
    assert "watched_all_the_time" in shut.json()["error"]["message"]
    assert (await fleet.services.rules.read(fleet.bucket)).rules

    order = {"confirm": "s", "quiet": "1s", "override": EVIL}
    done = (await api.post("/v1/gate/s/finalize", json=order)).json()
    assert done["retired"] == looked["rules"]
    retired = await fleet.services.rules.retired.read(fleet.bucket)
    assert {mark.by for mark in retired.values()} == {"admin, by token"}

    name = (await api.get("/v1/reports")).json()["reports"][0]
    assert name == done["report"]
    assert (await api.get(f"/v1/reports/{name}.json")).json()["override"] == EVIL
    html = await api.get(f"/v1/reports/{name}.html")
    assert "<script>" not in html.text
    assert "style-src 'sha256-" in html.headers["content-security-policy"]
    page = (await api.get("/gate?scan=s&quiet=1s")).text
    assert f"/v1/reports/{name}.html" in page
    assert "admin, by token" in page

    back = (await api.post("/v1/gate/s/rollback", json={"confirm": "s"})).json()
    assert back["rolled_back"] == done["retired"]
    again = await api.post("/v1/gate/s/rollback", json={"confirm": "s"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_possible")


WRONG_ORDERS = (
    ({"confirm": "S"}, "confirm"),
    ({}, "confirm"),
    ({"confirm": "s", "quiet": "soon"}, "quiet"),
    ({"confirm": "s", "quiet": "30d"}, "quiet"),
    ({"confirm": "s", "override": 5}, "override"),
    ({"confirm": "s", "force": True}, "force"),
)


async def test_an_order_that_is_wrong_says_where_and_changes_nothing(fleet, api):
    await proved(fleet)
    for order, field in WRONG_ORDERS:
        answer = await api.post("/v1/gate/s/finalize", json=order)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field), order
    assert (await fleet.services.rules.read(fleet.bucket)).rules
    assert await fleet.services.rules.retired.read(fleet.bucket) == {}


async def test_what_does_not_exist_is_404_and_a_viewer_only_looks(fleet, api):
    await proved(fleet)
    for path in ("/v1/gate/none", "/v1/reports/none-20260101T000000Z.json", "/v1/reports/..%2Fadmin-token"):
        assert (await api.get(path)).status_code == 404, path
    for path in (
        "/gate?scan=none",
        "/gate/none",
        "/scans?name=none",
        "/scans/none",
        "/rules/none",
        "/buckets/none",
    ):
        page = await api.get(path)
        assert (page.status_code, "There is no" in page.text) == (404, True), path
    viewer = {"authorization": "Bearer v"}
    assert (await api.get("/v1/gate/s", headers=viewer)).status_code == 200
    for order in ("finalize", "rollback"):
        refused = await api.post(f"/v1/gate/s/{order}", json={"confirm": "s"}, headers=viewer)
        assert refused.status_code == 403
