"""Clients behind sentinels: a server that dies, is demoted or stands alone, and the tools that say so."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from redis.exceptions import RedisError

from scheduler.config.settings import Settings
from scheduler.doctor import redis as doctor
from support.fleet import MASTER, SENTINEL_PASSWORD, Fleet
from support.valkey import running_valkey
from workers.broker.clients import ask_sentinels, connect, connect_blocking
from workers.broker.following import Demoted
from workers.broker.replicas import ReplicasMissing
from workers.errors import BrokerUnavailable
from workers.ledger.ledger import Ledger
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.settings import BrokerSettings

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]
#: Until sentinels that notice after 0.8 s have elected a new server, on a busy machine.
PATIENCE_S = 60.0


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path) as fleet:
        yield fleet


def settings_of(fleet, **more):
    return BrokerSettings(url=fleet.url(), sentinel_password=SENTINEL_PASSWORD, **more)


def a_batch(*keys):
    plan = FetchPlan(
        bucket="site", rule="all", epoch=1, groups=(OriginGroup(primary=Origin(host="origin.invalid")),)
    )
    return Batch(plan=plan, items=tuple(FetchItem(key=key, path=f"/{key}") for key in keys), lane=Lane.HOT)


async def until_it_works(call):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except (RedisError, OSError, BrokerUnavailable):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_what_a_replica_has_is_there_after_the_server_died_and_scripts_are_loaded_again(fleet):
    settings = settings_of(fleet, min_replicas=1)
    ledger, queue, blocking = Ledger.open(settings), JobQueue.open(settings), connect_blocking(settings)
    try:
        await ledger.claims.add_tombstones("site", ["deleted"], ttl_s=600, reason="test")
        await queue.enqueue_many([a_batch("first")])
        assert blocking.llen("ferryman:hot") == 1
        fleet.signal(fleet.servers[0], signal.SIGKILL)
        assert await until_it_works(lambda: ledger.claims.buried("site", ["deleted", "other"])) == {"deleted"}
        fleet.start(fleet.servers[0], of=fleet.servers[1])
        await until_it_works(lambda: queue.enqueue_many([a_batch("second")]))
        assert await until_it_works(lambda: ledger.claims.start("site", ["second"], owner="worker")) == [
            "started"
        ]
        assert (await until_it_works(lambda: queue.depth(Lane.HOT))).waiting >= 2

        async def by_thread():
            return blocking.llen("ferryman:hot")

        assert await until_it_works(by_thread) >= 2
    finally:
        await ledger.close()
        await queue.close()
        blocking.close()


async def test_a_server_that_stands_still_is_given_up_for_the_next_one(fleet):
    redis = connect(settings_of(fleet))
    try:
        assert await redis.set("ferryman:x", "1")
        fleet.signal(fleet.servers[0], signal.SIGSTOP)
        began = time.monotonic()
        assert await until_it_works(lambda: redis.incr("ferryman:x")) >= 1
        assert time.monotonic() - began < PATIENCE_S
        assert fleet.primary() == fleet.servers[1]
    finally:
        await redis.aclose()


async def test_a_demoted_server_is_left_at_its_first_refusal(fleet):
    """A fail-over by hand: both servers live, and the one before says READONLY or ends the connection."""
    settings = settings_of(fleet)
    redis, blocking = connect(settings), connect_blocking(settings)
    try:
        await redis.set("ferryman:x", "1")
        blocking.get("ferryman:x")
        with fleet.client(fleet.sentinels[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
        fleet.wait_for_primary(fleet.servers[1])
        # Until then the one before takes writes that nobody will have: only `min_replicas` refuses those.
        fleet.wait_for_replica(fleet.servers[0])

        async def by_thread():
            return blocking.set("ferryman:y", "1")

        await until_it_works(lambda: redis.set("ferryman:x", "2"))
        await until_it_works(by_thread)
        with fleet.client(fleet.servers[1]) as client:
            assert client.mget("ferryman:x", "ferryman:y") == ["2", "1"]
    finally:
        await redis.aclose()
        blocking.close()


async def test_without_sentinels_a_demoted_server_is_left_too(tmp_path):
    """Behind a name or an address that moves, only a new connection finds the server that is written to."""
    with running_valkey() as url:
        settings = BrokerSettings(url=url)
        redis, blocking, admin = connect(settings), connect_blocking(settings), connect_blocking(settings)
        try:
            await redis.set("x", "1")
            number = await redis.client_id()
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(Demoted, match="replica"):
                await redis.set("x", "2")
            with pytest.raises(Demoted, match="replica"):
                blocking.set("x", "2")
            async with redis.pipeline(transaction=True) as pipe:
                pipe.set("x", "3")
                with pytest.raises(Demoted, match="replica"):
                    await pipe.execute()
            admin.execute_command("REPLICAOF", "NO", "ONE")
            assert await redis.set("x", "4")
            assert await redis.client_id() != number, "the connection before was kept"
        finally:
            await redis.aclose()
            blocking.close()
            admin.close()


async def test_nothing_is_accepted_while_too_few_replicas_have_it(fleet):
    settings = settings_of(fleet, min_replicas=1, min_replicas_timeout_s=0.3)
    ledger, queue = Ledger.open(settings), JobQueue.open(settings)
    try:
        await queue.enqueue_many([a_batch("first")])
        fleet.signal(fleet.servers[1], signal.SIGSTOP)
        with pytest.raises(BrokerUnavailable, match="0 of 1 replicas have it"):
            await queue.enqueue_many([a_batch("second")])
        with pytest.raises(ReplicasMissing):
            await ledger.claims.bury("site", ["key"], mark="m", ttl_s=60)
        with pytest.raises(ReplicasMissing):
            await ledger.back.note("site", ["key"], "written")
        fleet.signal(fleet.servers[1], signal.SIGCONT)
        await until_it_works(lambda: queue.enqueue_many([a_batch("second")]))
    finally:
        await ledger.close()
        await queue.close()


async def test_one_sentinel_that_answers_is_enough_and_doctor_names_the_others(fleet, tmp_path):
    for port in fleet.sentinels[:2]:
        fleet.signal(port, signal.SIGKILL)
    broker = settings_of(fleet)
    redis = connect(broker)
    try:
        assert await redis.set("ferryman:x", "1")
    finally:
        await redis.aclose()
    found = {one.check: one for one in await doctor.check(Settings(broker=broker, data_dir=tmp_path))}
    assert found["sentinels"].level == "warning"
    assert all(f"127.0.0.1:{port}: " in found["sentinels"].message for port in fleet.sentinels[:2])
    assert f"127.0.0.1:{fleet.sentinels[2]}" not in found["sentinels"].message
    assert (found["replicas"].level, "min_replicas: 1" in found["replicas"].remedy) == ("warning", True)
    assert found["rights"].level == "ok"


async def test_a_wrong_password_at_the_sentinels_is_said_and_not_shown(fleet):
    broker = BrokerSettings(url=fleet.url(), sentinel_password="not-this-one")
    assert all("invalid username-password" in problem for problem in (await ask_sentinels(broker)).values())
    redis = connect(broker)
    try:
        with pytest.raises(RedisError, match="no sentinel names a server of 'mymaster'") as caught:
            await redis.ping()
        assert "not-this-one" not in str(caught.value)
    finally:
        await redis.aclose()
