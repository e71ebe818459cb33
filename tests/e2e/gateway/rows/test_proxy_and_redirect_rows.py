"""Proxy and Redirect, SEMANTICS.md 5.2 and 5.3, row by row."""

from __future__ import annotations

import asyncio
import time

import pytest

from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.claims import ClaimState

pytestmark = pytest.mark.real

BODY = b"x" * 50_000


# ------------------------------------------------------------ Proxy


@pytest.mark.parametrize("code", [301, 302, 307])
async def test_a27_a_proxy_miss_is_redirected_to_the_origin_and_queued(chaos, mirror, start, code):
    """A27, D22."""
    front = await start(
        mirror(
            "proxy",
            request={"follow_query": True},
            answer={"redirect_code": code},
            path={"add_prefix": "old/"},
        )
    )
    reply = await front.get("/a%20b/k?x=%2f+1", {"Range": "bytes=0-5"})
    assert reply.status == code
    assert reply.headers["location"] == f"http://{chaos.host}/old/a%20b/k?x=%2f+1"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.body == b""
    await front.idle()
    assert await front.queued() == 1
    assert chaos.count() == 0
    await front.get("/a%20b/k")
    await front.idle()
    assert await front.queued() == 1, "one pull for one key"


@pytest.mark.parametrize(
    ("answer", "status", "code"), [("not_found", 404, b"NoSuchKey"), ("retry", 503, b"SlowDown")]
)
async def test_a28_a29_other_proxy_replies(mirror, start, answer, status, code):
    """A28, A29."""
    front = await start(mirror("proxy", answer={"proxy_reply": answer}))
    reply = await front.get("/k")
    assert reply.status == status
    assert code in reply.body
    assert reply.headers.get("retry-after") == ("2" if answer == "retry" else None)
    await front.idle()
    assert await front.queued() == 1


async def test_a30_a_key_known_to_be_absent_is_a_404_without_a_new_job(mirror, start):
    """A30."""
    front = await start(mirror("proxy"))
    await front.services.ledger.claims.mark_absent(front.bucket, ["k"], ttl_s=10)
    assert (await front.get("/k")).status == 404
    await front.idle()
    assert await front.queued() == 0


async def test_a31_an_origin_that_needs_a_credential_is_no_place_to_send_a_client(chaos, mirror, start):
    """A31."""
    front = await start(
        mirror("proxy", origin={"hosts": [{"host": chaos.host, "credential": "c"}]}),
        origin={"credentials": {"c": {"type": "bearer", "token": "t"}}},
    )
    reply = await front.get("/k")
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    await front.idle()
    assert await front.queued() == 1


@pytest.mark.parametrize("how", ["refused", "hangs"])
async def test_a32_a_queue_that_is_away_never_delays_or_fails_the_redirect(mirror, start, monkeypatch, how):
    """A32."""
    front = await start(mirror("proxy"))

    async def away(*_, **__):
        if how == "hangs":
            await asyncio.sleep(3600)
        raise BrokerUnavailable("away")

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", away)
    for number in range(3):
        began = time.monotonic()
        assert (await front.get(f"/k{number}")).status == 302
        assert time.monotonic() - began < 1
    if how == "refused":
        assert any(what == "enqueue_failed" for what, _, _ in front.gateway.parts.stats.totals)


async def test_a_full_queue_is_503_for_proxy_and_nothing_for_mirror(chaos, mirror, start, monkeypatch):
    """Queue depth bound: over it Mirror goes on, Proxy answers 503."""
    chaos.put("/m/k", BODY)
    front = await start(
        mirror("proxy", name="p", when={"prefix": "p/"}), mirror(name="m", when={"prefix": "m/"})
    )

    async def full(*_, **__):
        raise QueueFull("full")

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", full)
    assert (await front.get("/p/k")).status == 503
    assert (await front.get("/m/k")).body == BODY


async def test_a_slow_store_never_delays_the_redirect(mirror, start, monkeypatch):
    """Issue: a store that is slow never delays the redirect."""
    front = await start(mirror("proxy"), gateway={"listen": "127.0.0.1:0", "proxy_lookup_s": 0.2})

    async def slow(*_, **__):
        await asyncio.sleep(3600)

    monkeypatch.setattr(front.services.store, "get", slow)
    began = time.monotonic()
    assert (await front.get("/k")).status == 302
    assert time.monotonic() - began < 1.5


async def test_a_queued_pull_carries_no_cookie_h9(chaos, mirror, start, monkeypatch):
    """H9, for Proxy and for a Mirror pull that is given away."""
    front = await start(
        mirror("proxy", name="p", when={"prefix": "p/"}, request={"pass": ["Cookie", "X-A"]}),
        mirror(name="m", when={"prefix": "m/"}, request={"pass": ["Cookie", "X-A"]}),
    )
    seen = []

    async def record(plan, item, **_):
        seen.append((item.key, dict(plan.headers)))
        return ClaimState.CLAIMED

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", record)
    await front.get("/p/k", {"Cookie": "secret=1", "X-A": "a"})
    chaos.script("/m/k", "hangup")
    await front.get("/m/k", {"Cookie": "secret=1", "X-A": "a"})
    await front.idle()
    assert chaos.asked("/m/k")[0].header("cookie") == "secret=1"
    assert [key for key, _ in seen] == ["p/k", "m/k"]
    assert all({name.lower() for name in headers} == {"x-a"} for _, headers in seen)


# ------------------------------------------------------------ Redirect


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a33_a_redirect_rule_only_redirects(chaos, mirror, start, method):
    """A33."""
    front = await start(
        mirror("redirect", when={"prefix": "img/"}, path={"fixed": "none.png"}, answer={"redirect_code": 307})
    )
    reply = await front.request(method, "/img/1.png")
    assert (reply.status, reply.body) == (307, b"")
    assert reply.headers["location"] == f"http://{chaos.host}/none.png"
    await front.idle()
    assert await front.queued() == 0
    assert await front.stored("img/1.png") is None
    assert chaos.count() == 0


async def test_a34_without_a_match_the_stores_own_answer(mirror, start):
    """A34, section 2.6."""
    front = await start(mirror("redirect", when={"prefix": "img/"}))
    reply = await front.get("/other")
    assert reply.status == 404
    assert b"NoSuchKey" in reply.body


async def test_a_redirect_on_another_status_needs_that_status_from_the_store(mirror, start):
    """F4, 2.5: the store's real answer decides, or what a trusted gateway saw."""
    rule = mirror("redirect", when={"status": [403, "5xx"]})
    trusting = await start(rule, gateway={"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"]})
    assert (await trusting.get("/k")).status == 404
    assert (await trusting.get("/k", {"X-Ferryman-Status": "403"})).status == 302
    assert (await trusting.get("/k", {"X-Ferryman-Status": "502"})).status == 302
    assert (await trusting.get("/k", {"X-Ferryman-Status": "404"})).status == 404


async def test_a_status_header_of_an_untrusted_client_is_ignored(mirror, start):
    """2.5."""
    front = await start(mirror("redirect", when={"status": [403]}))
    assert (await front.get("/k", {"X-Ferryman-Status": "403"})).status == 404


async def test_any_is_evaluated_without_a_look_up(mirror, start, monkeypatch):
    """2.5."""
    front = await start(mirror("redirect", when={"status": ["any"]}))

    async def never(*_, **__):
        raise AssertionError("the store was asked")

    monkeypatch.setattr(front.services.store, "get", never)
    assert (await front.get("/k")).status == 302
