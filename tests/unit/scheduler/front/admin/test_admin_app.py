"""The admin application: who comes in, and how errors look."""

from __future__ import annotations

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.front.admin import app as admin
from scheduler.front.admin.guard import COOKIE, CSRF_HEADER, TRIES, Guard, visitor_of
from workers.errors import BrokerUnavailable, ConfigError, QueueFull, StoreUnavailable

TOKEN = "t0ken"
VIEWER = "l00k"


async def whoami(request):
    return JSONResponse({"id": structlog.contextvars.get_contextvars().get("request_id")})


async def who(request):
    visitor = visitor_of(request)
    return JSONResponse({"name": visitor.name, "csrf": visitor.csrf})


INNER = Starlette(
    routes=[
        Route("/", whoami),
        Route("/who", who),
        Route("/healthz", whoami),
        Route("/v1/x", whoami, methods=["GET", "POST"]),
    ]
)


@pytest.fixture
def client():
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(
            app=Guard(
                INNER,
                TOKEN,
                viewer_token=VIEWER,
                login_page=lambda problem, goes_to: f"<p>{problem}|{goes_to}</p>",
            )
        ),
        base_url="http://admin.test",
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


async def test_the_token_in_an_address_becomes_a_cookie_and_leaves_the_address(client):
    first = await client.get("/x", params={"token": TOKEN, "a": "b"})
    assert (first.status_code, first.headers["location"]) == (303, "/x?a=b")
    cookie = first.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert (await client.get("/v1/x")).status_code == 200


def csrf_of(answer):
    return answer.json()["csrf"]


async def test_a_change_from_a_browser_needs_the_sessions_token_beside_the_cookie(client):
    await client.get("/", params={"token": TOKEN})
    csrf = csrf_of(await client.get("/who"))
    assert csrf
    refused = await client.post("/v1/x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf")
    assert (await client.post("/v1/x", headers={CSRF_HEADER: csrf[:-1] + "!"})).status_code == 403
    elsewhere = {CSRF_HEADER: csrf, "sec-fetch-site": "cross-site"}
    assert (await client.post("/v1/x", headers=elsewhere)).status_code == 403
    assert (await client.post("/v1/x", headers={CSRF_HEADER: csrf})).status_code == 200


async def test_whoever_signs_out_is_out_and_needs_the_sessions_token_for_it(client):
    await client.get("/", params={"token": TOKEN})
    csrf = csrf_of(await client.get("/who"))
    assert (await client.post("/logout")).status_code == 403
    assert (await client.get("/logout", headers={CSRF_HEADER: csrf})).status_code == 405
    assert (await client.post("/logout", headers={CSRF_HEADER: csrf})).status_code == 200
    assert (await client.get("/v1/x")).status_code == 401


@pytest.mark.parametrize("how", ["bearer", "session"])
async def test_a_viewer_looks_and_changes_nothing(client, how):
    headers = {"authorization": f"Bearer {VIEWER}"} if how == "bearer" else {}
    if how == "session":
        assert (await client.post("/login", data={"token": VIEWER})).status_code == 303
        headers = {CSRF_HEADER: csrf_of(await client.get("/who"))}
    assert (await client.get("/v1/x", headers=headers)).status_code == 200
    refused = await client.post("/v1/x", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "viewer")


async def test_the_form_lets_in_and_says_what_is_wrong(client):
    wrong = await client.post("/login", data={"token": "no", "next": "/scans"})
    assert (wrong.status_code, "not the token" in wrong.text, "/scans" in wrong.text) == (401, True, True)
    right = await client.post("/login", data={"token": f" {TOKEN} ", "next": "/scans"})
    assert (right.status_code, right.headers["location"]) == (303, "/scans")
    assert (await client.get("/v1/x")).status_code == 200


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/a\nb"])
async def test_signing_in_leads_nowhere_else(client, target):
    answer = await client.post("/login", data={"token": TOKEN, "next": target})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_after_many_wrong_tokens_the_form_asks_to_wait_even_for_the_right_one(client):
    for _ in range(TRIES):
        assert (await client.post("/login", data={"token": "no"})).status_code == 401
    held = await client.post("/login", data={"token": TOKEN})
    assert (held.status_code, held.headers["retry-after"]) == (429, "60")
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert (await client.get("/v1/x", headers=bearer)).status_code == 200, "programs are not held up"


async def test_a_browser_without_a_session_is_led_to_the_form_and_a_program_is_told(client):
    page = await client.get("/scans", headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/scans")
    assert (await client.get("/scans", headers={"accept": "application/json"})).status_code == 401


async def test_a_session_ends_by_itself_and_cannot_be_made_longer(client):
    await client.get("/", params={"token": TOKEN})
    value = client.cookies[COOKIE]
    name, ends, rest = value.split(".", 2)
    client.cookies.clear()
    later = f"{name}.{int(ends) + 9}.{rest}"
    assert (await client.get("/v1/x", headers={"cookie": f"{COOKIE}={later}"})).status_code == 401
    past = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Guard(INNER, TOKEN, clock=lambda: float(ends) + 1)),
        base_url="http://admin.test",
    )
    assert (await past.get("/v1/x", headers={"cookie": f"{COOKIE}={value}"})).status_code == 401


async def test_every_answer_carries_the_policy_without_unsafe_inline(client):
    for answer in (
        await client.get("/healthz"),
        await client.get("/login"),
        await client.get("/v1/x"),
        await client.get("/v1/x", headers={"authorization": f"Bearer {TOKEN}"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


async def test_a_wrong_token_in_the_address_opens_nothing(client):
    assert (await client.get("/", params={"token": "wrong"})).status_code == 401
    assert (await client.get("/", headers={"cookie": f"{COOKIE}=wrong"})).status_code == 401


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
