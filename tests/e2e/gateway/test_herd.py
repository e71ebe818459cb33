"""Many clients, one cold key (SEMANTICS.md A24; P25, P29), and sides that fail alone (A23, A25, A26)."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest

from support.gateway import until_asked
from support.patience import PATIENCE_S
from workers.errors import BrokerUnavailable, StoreUnavailable

pytestmark = pytest.mark.real

BODY = os.urandom(300_000)


async def two_fronts(start, *rules, **more):
    namespace = f"t{uuid.uuid4().hex[:8]}"
    return await start(*rules, namespace=namespace, **more), await start(*rules, namespace=namespace, **more)


async def test_p25_a24_a_hundred_clients_over_two_fronts_are_one_fetch(chaos, mirror, start):
    """A24, P25."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=100000,interval=0.2")
    fronts = await two_fronts(start, mirror())
    replies = await asyncio.gather(*(fronts[number % 2].get("/k") for number in range(100)))
    assert all(reply.status == 200 and reply.body == BODY for reply in replies)
    assert chaos.count("/k") == 1


@pytest.mark.slow
async def test_p25_a24_a_thousand_clients_over_two_fronts_are_one_fetch(chaos, mirror, start):
    """A24, P25: 1,000 concurrent GETs, one origin GET, 1,000 whole bodies."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=60000,interval=0.3")
    fronts = await two_fronts(start, mirror())
    replies = await asyncio.gather(*(fronts[number % 2].get("/k") for number in range(1000)))
    assert all(reply.status == 200 and reply.body == BODY for reply in replies)
    assert chaos.count("/k") == 1


async def test_a24_a_pull_that_outlasts_herd_wait_costs_one_more_fetch_a_process(chaos, mirror, start):
    """A24: at most one per front process, and not stored a second time."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=30000,interval=0.3")
    fronts = await two_fronts(start, mirror(), gateway={"listen": "127.0.0.1:0", "herd_wait_s": 0.5})
    first = asyncio.create_task(fronts[0].get("/k"))
    await until_asked(chaos, "/k")
    replies = await asyncio.gather(*(fronts[number % 2].get("/k") for number in range(40)), first)
    assert all(reply.body == BODY for reply in replies)
    assert chaos.count("/k") == 2
    for front in fronts:
        await front.idle()
    totals = fronts[0].gateway.parts.stats.totals + fronts[1].gateway.parts.stats.totals
    outcomes = {what: count for (what, _, _), count in totals.items() if what.startswith("outcome_")}
    assert outcomes == {"outcome_stored": 1}


async def test_a24_when_the_other_process_fails_the_waiting_one_takes_over(chaos, mirror, start):
    """A24: followers wait on a running pull only."""
    chaos.put("/k", BODY)
    chaos.script("/k", "no_last_chunk", "chunked")
    fronts = await two_fronts(start, mirror())
    first, second = await asyncio.gather(
        fronts[0].raw_get("/k"), fronts[1].raw_get("/k"), return_exceptions=False
    )
    assert sorted([first.reset, second.reset]) == [False, True]
    for front in fronts:
        await front.idle()
    assert await fronts[0].stored("k") == BODY


async def test_a_follower_that_comes_late_gets_every_byte(chaos, mirror, start):
    """A24: from the first byte, in memory or on disk."""
    body = os.urandom(2_000_000)
    chaos.put("/k", body)
    chaos.script("/k", "slow_body,step=100000,interval=0.05")
    front = await start(mirror(), gateway={"listen": "127.0.0.1:0", "fill_memory_bytes": 64 * 1024})
    tasks = []
    for _ in range(8):
        tasks.append(asyncio.create_task(front.get("/k")))
        await asyncio.sleep(0.1)
    assert all(reply.body == body for reply in await asyncio.gather(*tasks))
    assert chaos.count("/k") == 1
    await front.idle()
    assert await front.stored("k") == body


async def test_a_client_that_stops_reading_holds_nobody(chaos, mirror, start):
    """Slow clients never hold the origin, the store or their fellows."""
    body = os.urandom(20_000_000)
    chaos.put("/k", body)
    front = await start(mirror(), gateway={"listen": "127.0.0.1:0", "client_stall_s": 1.0})
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, limit=1024)
    writer.write(f"GET /{front.bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.read(100)
    assert await front.until_stored("k") == body
    assert (await front.get("/k")).body == body
    deadline = asyncio.get_running_loop().time() + 10
    while not any(what == "client_lost" for what, _, _ in front.gateway.parts.stats.totals):
        assert asyncio.get_running_loop().time() < deadline, "a client that takes nothing is cut"
        await asyncio.sleep(0.05)
    writer.transport.abort()


async def test_p50_a_hundred_early_leavers_eject_no_origin_and_every_pull_ends(chaos, mirror, start):
    """P50."""
    front = await start(mirror())
    for number in range(100):
        chaos.put(f"/k{number}", BODY)

    async def leave(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(f"GET /{front.bucket}/k{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        await reader.read(1)
        writer.transport.abort()

    await asyncio.gather(*(leave(number) for number in range(100)))
    await front.idle(timeout_s=30)
    assert not front.services.control.health.sick
    for number in range(100):
        assert await front.stored(f"k{number}") == BODY


async def test_p29_a_thousand_gets_of_an_absent_key_ask_the_origin_once(chaos, mirror, start):
    """P29, L14: also over two processes."""
    fronts = await two_fronts(start, mirror())
    chaos.script("/k", "status,code=404")
    for _ in range(10):
        replies = await asyncio.gather(*(fronts[number % 2].get("/k") for number in range(100)))
        assert {reply.status for reply in replies} == {404}
    assert chaos.count("/k") == 1


async def test_a23_a_store_that_fails_does_not_touch_the_clients_answer(chaos, mirror, start, monkeypatch):
    """A23: and the key goes to the queue."""
    chaos.put("/k", BODY)
    front = await start(mirror())

    def broken(*_, **__):
        raise StoreUnavailable("the store is down")

    monkeypatch.setattr(front.services.store, "upload", broken)
    reply = await front.get("/k")
    assert (reply.status, reply.body) == (200, BODY)
    await front.idle()
    assert await front.queued() == 1


async def test_a23_a_store_that_hangs_does_not_hold_the_client(chaos, mirror, start, monkeypatch):
    """A23."""
    chaos.put("/k", BODY)
    front = await start(mirror())
    upload = front.services.store.upload
    released = asyncio.Event()

    class Hanging:
        def __init__(self, inner):
            self.inner = inner

        async def __aenter__(self):
            await released.wait()
            return await self.inner.__aenter__()

        async def __aexit__(self, *error):
            return await self.inner.__aexit__(*error)

    monkeypatch.setattr(front.services.store, "upload", lambda *a, **k: Hanging(upload(*a, **k)))
    async with asyncio.timeout(PATIENCE_S):
        assert (await front.get("/k")).body == BODY
        assert (await front.get("/k")).body == BODY, "from the fill that still waits for the store"
    released.set()
    assert await front.until_stored("k") == BODY
    assert chaos.count("/k") == 1


async def test_f53_the_budget_of_a_rule_holds_from_the_first_request_on(chaos, mirror, start):
    """F53."""
    for path in ("/a", "/b"):
        chaos.put(path, BODY)
        chaos.script(path, f"slow_body,step={len(BODY) // 2},interval=0.4")
    budget = {"concurrency": 1}
    front = await start(mirror(origin={"budget": budget}), origin={"hot_share": 0.0})
    await asyncio.gather(front.get("/a"), front.get("/b"))
    first, second = sorted(request.at for request in chaos.requests)
    assert second - first > 0.3


async def test_a25_a_spent_budget_is_503_with_retry_after_and_a_job(chaos, mirror, start):
    """A25, D19."""
    chaos.put("/a", BODY)
    chaos.script("/a", "slow_body,step=1000,interval=0.2")
    chaos.put("/b", BODY)
    front = await start(mirror(), origin={"budgets": {chaos.host: {"concurrency": 1}}, "hot_share": 0.0})
    slow = asyncio.create_task(front.get("/a"))
    await until_asked(chaos, "/a")
    reply = await front.get("/b")
    assert reply.status == 503
    assert b"<Code>SlowDown</Code>" in reply.body
    assert int(reply.headers["retry-after"]) >= 1
    deadline = asyncio.get_running_loop().time() + 5
    while not await front.queued():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    slow.cancel()


async def test_a26_a_redis_that_is_away_is_no_error_for_a_client(chaos, mirror, start, monkeypatch):
    """A26: the tee works without it."""
    chaos.put("/k", BODY)
    front = await start(mirror())

    async def away(*_, **__):
        raise ConnectionError("away")

    async def away_queue(*_, **__):
        raise BrokerUnavailable("away")

    for name in ("start_wanted", "standing", "release", "renew", "is_running", "mark_absent"):
        monkeypatch.setattr(front.services.ledger.claims, name, away)
    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", away_queue)
    assert (await front.get("/k")).body == BODY
    await front.idle()
    assert await front.stored("k") == BODY
    assert (await front.get("/none")).status == 404
    assert front.gateway.parts.claims.unanswered > 0


@pytest.mark.parametrize("ask", ["whole", "range", "head"])
async def test_s15_where_keys_were_deleted_a_miss_waits_for_a_redis_that_is_away(
    chaos, mirror, start, monkeypatch, ask
):
    """Nobody else knows whether this key is one of them; the origin still has them all."""
    chaos.put("/k", BODY)
    front = await start(mirror(answer={"allow_head": True}))
    await front.services.ledger.claims.add_tombstones(front.bucket, ["deleted"], ttl_s=60, reason="d")

    async def away(*_, **__):
        raise ConnectionError("away")

    for name in ("start_wanted", "standing", "learn_tombstoned"):
        monkeypatch.setattr(front.services.ledger.claims, name, away)
    method, headers = ("HEAD" if ask == "head" else "GET"), ({"Range": "bytes=0-9"} if ask == "range" else {})
    reply = await front.request(method, "/k", headers)
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    assert not chaos.count("/k")
    monkeypatch.undo()
    front.gateway.parts.claims._away_until = 0.0
    reply = await front.request(method, "/k", headers)
    assert reply.status == (206 if ask == "range" else 200)


async def test_s15_a_pull_without_a_claim_does_not_bring_back_what_was_deleted_meanwhile(
    chaos, mirror, start, monkeypatch
):
    """The delete could not know of it: whoever holds no claim looks at the tombstones before the commit."""
    chaos.put("/k", BODY)
    chaos.script("/k", "slow_body,step=100000,interval=0.3")
    front = await start(mirror())
    claims = front.services.ledger.claims

    async def away(*_, **__):
        raise ConnectionError("away")

    monkeypatch.setattr(claims, "start_wanted", away)
    pulling = asyncio.create_task(front.get("/k"))
    await until_asked(chaos, "/k")
    monkeypatch.undo()
    front.gateway.parts.claims._away_until = 0.0
    await claims.bury(front.bucket, ["k"], mark="m", ttl_s=60)
    assert (await pulling).status == 200, "it was asked for before"
    await front.idle()
    assert await front.stored("k") is None


@pytest.mark.parametrize("kind", ["mirror", "proxy"])
async def test_p22_s15_a_tombstone_blocks_the_pull(chaos, mirror, start, kind):
    """P22, S15: however the key is asked for."""
    chaos.put("/k", BODY)
    front = await start(mirror(kind, answer={"allow_head": kind == "mirror"}))
    await front.services.ledger.claims.add_tombstones(front.bucket, ["k"], ttl_s=60, reason="deleted")
    assert (await front.get("/k")).status == 404
    assert (await front.get("/k", {"Range": "bytes=0-3"})).status == 404
    assert (await front.head("/k")).status == 404
    await front.idle()
    assert chaos.count("/k") == 0
    assert await front.queued() == 0


async def test_l14_what_another_process_found_absent_is_not_asked_for_a_range(chaos, mirror, start):
    """L14."""
    chaos.put("/k", BODY)
    front = await start(mirror())
    await front.services.ledger.claims.mark_absent(front.bucket, ["k"], ttl_s=10)
    assert (await front.get("/k", {"Range": "bytes=0-3"})).status == 404
    assert chaos.count("/k") == 0


async def test_floods_of_distinct_missing_keys_are_stopped_by_client_address(chaos, mirror, start):
    """Admission: 503 SlowDown, and the origin is not asked."""
    front = await start(mirror(), gateway={"listen": "127.0.0.1:0", "misses_per_client_per_s": 5})
    replies = await asyncio.gather(*(front.get(f"/{uuid.uuid4().hex}") for _ in range(60)))
    refused = [reply for reply in replies if reply.status == 503]
    assert len(refused) >= 40
    assert all("retry-after" in reply.headers for reply in refused)
    assert chaos.count() <= 20


async def test_h11_a_request_that_came_through_us_is_508_and_pulls_nothing(chaos, mirror, start):
    """H11."""
    chaos.put("/k", BODY)
    front = await start(mirror())
    reply = await front.get("/k", {"X-Ferryman-Hop": "other, test-installation"})
    assert reply.status == 508
    assert chaos.count("/k") == 0
    assert (await front.get("/k", {"X-Ferryman-Hop": "other"})).status == 200
    assert chaos.asked("/k")[0].header("x-ferryman-hop") == "other, test-installation"


async def test_a_stop_hands_running_pulls_to_the_queue(chaos, mirror, start):
    """Graceful drain: the client is cut, the key is not lost."""
    chaos.script("/k", "endless,interval=0.05")
    front = await start(mirror(), limits={"drain_s": 1})
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(f"GET /{front.bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await reader.read(1000)
    await front.gateway.parts.herd.close(0.2)
    await front.gateway.parts.jobs.close(2)
    assert await front.queued() == 1
    writer.transport.abort()


async def test_a_gateway_that_has_asked_spares_the_question_to_the_store(chaos, mirror, start, monkeypatch):
    """docs/gateways.md: X-Ferryman-Status."""
    chaos.put("/k", BODY)
    front = await start(mirror(), gateway={"trusted_proxies": ["127.0.0.1/32"]})
    store, asked = front.services.store, []

    def counted(name):
        call = getattr(store, name)

        async def ask(*args, **more):
            asked.append(name)
            return await call(*args, **more)

        monkeypatch.setattr(store, name, ask)

    counted("get")
    counted("head")
    assert (await front.get("/k", {"X-Ferryman-Status": "404"})).body == BODY
    await front.idle()
    assert asked == []
    assert await front.stored("k") == BODY


async def test_what_somebody_else_has_just_stored_is_not_fetched_though_a_gateway_missed_it(
    chaos, mirror, start
):
    """A24: whoever stores a key leaves a mark, workers too, which a claim that comes later finds."""
    chaos.put("/k", b"of the origin")
    front = await start(mirror(), gateway={"trusted_proxies": ["127.0.0.1/32"]})
    claims = front.services.ledger.claims
    assert await claims.start(front.bucket, ["k"], owner="worker-other") == ["started"]
    await front.services.store.put_small(front.bucket, "k", b"of the store", content_type="text/plain")
    await claims.finish(front.bucket, ["k"], owner="worker-other")
    reply = await front.get("/k", {"X-Ferryman-Status": "404"})
    assert (reply.status, reply.body) == (200, b"of the store")
    assert chaos.count("/k") == 0
