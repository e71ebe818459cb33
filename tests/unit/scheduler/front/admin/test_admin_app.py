"""The admin application: who comes in, and how errors look."""

from __future__ import annotations

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.front.admin import app as admin
from scheduler.front.admin.page import plain, render
from workers.errors import BrokerUnavailable, ConfigError, QueueFull, StoreUnavailable

TOKEN = "t0ken"


async def whoami(request):
    return JSONResponse({"id": structlog.contextvars.get_contextvars().get("request_id")})


@pytest.fixture
def client():
    inner = Starlette(
        routes=[
            Route("/", whoami),
            Route("/healthz", whoami),
            Route("/v1/x", whoami, methods=["GET", "POST"]),
        ]
    )
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=admin.Guard(inner, TOKEN)), base_url="http://admin.test"
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic t0ken"}, 401),
        ({"authorization": "Bearer t0ken"}, 200),
        ({"authorization": "bearer t0ken"}, 200),
        ({"authorization": "Bearer \u00e9".encode()}, 401),
    ],
)
async def test_a_request_needs_the_token(client, headers, status):
    answer = await client.post("/v1/x", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert set(answer.json()["error"]) == {"code", "message"}


async def test_health_is_open_to_everybody(client):
    assert (await client.get("/healthz")).status_code == 200


async def test_a_browser_trades_the_token_in_the_address_for_a_cookie_that_only_reads(client):
    first = await client.get("/", params={"token": TOKEN})
    assert first.status_code == 303
    assert first.headers["location"] == "/"
    cookie = first.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert (await client.get("/v1/x")).status_code == 200
    assert (await client.post("/v1/x")).status_code == 401


async def test_a_wrong_token_in_the_address_opens_nothing(client):
    assert (await client.get("/", params={"token": "wrong"})).status_code == 401
    assert (await client.get("/", headers={"cookie": f"{admin.COOKIE}=wrong"})).status_code == 401


async def test_the_request_id_is_the_senders_or_a_fresh_one(client):
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert (await client.get("/", headers={**bearer, "x-request-id": "mine"})).json() == {"id": "mine"}
    fresh = [(await client.get("/", headers=bearer)).json()["id"] for _ in range(2)]
    assert len(set(fresh)) == 2
    assert "request_id" not in structlog.contextvars.get_contextvars()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConfigError("rules[0]: x"), 400, "invalid"),
        (QueueFull("hot holds 10000"), 429, "queue_full"),
        (BrokerUnavailable("refused"), 503, "broker_unavailable"),
        (StoreUnavailable("no answer"), 502, "store_unavailable"),
    ],
)
async def test_errors_of_ours_are_json_with_a_fitting_status(error, status, code):
    answer = await admin._our_error(None, error)
    assert (answer.status_code, f'"code":"{code}"' in answer.body.decode()) == (status, True)


def test_the_page_shows_every_field_and_escapes_what_came_from_outside():
    page = render(
        plain({"at": 1795238532.5, "queues": [{"lane": "hot", "waiting": 12345}], "x": {"<b>": "<script>"}})
    )
    assert "hot" in page
    assert "2026-11-21" in page
    assert "12\u202f345" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page


def test_the_page_of_an_empty_status_says_so():
    assert "Nothing to show yet" in render({})
