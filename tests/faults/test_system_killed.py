"""Guarantee 3 for a whole installation: whatever is killed or stands still, every accepted event ends.

Each test breaks a running `ferryman up` of its own and then looks past it: the store's bytes, the queue, the
claims, the processes. Nothing is restarted by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import threading
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import (
    PATIENCE_S,
    alive,
    descendants,
    fetch,
    running_origin,
    running_up,
    until,
)
from workers.ledger.ledger import Ledger
from workers.plan import Lane
from workers.queue.queue import JobQueue
from workers.store.client import ObjectStore
from workers.store.listing import list_uploads

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

#: Seconds after which a worker that is gone loses its messages; 60 by default.
HEARTBEAT_S = 6


@pytest.fixture
def origin():
    with running_origin() as origin:
        yield origin


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"broker: {{heartbeat_timeout_s: {HEARTBEAT_S}}}\n")
    return ("--config", str(path))


def bodies_of(origin, name, number, size=60_000):
    chance = random.Random(name)
    made = {f"{name}/{n:04}.bin": chance.randbytes(chance.randrange(size)) for n in range(number)}
    origin.bodies.update(made)
    return made


def post(up, keys):
    """Status and counts of a request with an event for each key."""
    request = urllib.request.Request(
        f"{up.admin}/v1/miss-events",
        data="\n".join(json.dumps({"bucket": "site", "key": key}) for key in keys).encode(),
        headers={"Authorization": f"Bearer {up.token}", "Content-Type": "application/x-ndjson"},
    )
    status, _, body = fetch(request, PATIENCE_S)
    return status, json.loads(body or b"{}")


@contextlib.asynccontextmanager
async def parts(up):
    settings = resolve_running(load_settings(None, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
    ledger, queue = Ledger.open(settings.broker), JobQueue.open(settings.broker)
    async with ObjectStore(settings.store, settings.limits) as store:
        yield ledger, queue, store
    await ledger.close()
    await queue.close()


async def state_of(up, bodies):
    """Keys whose bytes are the origin's, listed keys, and what is still under way anywhere."""
    async with parts(up) as (ledger, queue, store):
        whole = set()
        for key, body in bodies.items():
            async with await store.get("site", key) as answer:
                if answer.status == 200:
                    assert await answer.read() == body, f"{key}: partial or foreign bytes"
                    whole.add(key)
        listed = {failure.key async for failure in ledger.failures.iterate("site")}
        busy = {}
        for lane in Lane:
            depth = await queue.depth(lane)
            busy[lane.value] = depth.waiting + depth.running + depth.delayed
        names = [name async for name in ledger.redis.scan_iter(match="ferryman:claim:*", count=1000)]
        held = Counter(
            str(value).split("|")[0] for value in (await ledger.redis.mget(names) if names else [])
        )
        busy["claims"] = held["running"] + held["queued"] + held["pending"]
        busy["notes"] = len([note async for note in store.journal.notes("site")])
        uploads = list_uploads(store.transport, "site", "", headers=store.common_headers)
        busy["uploads"] = len([upload async for upload in uploads])
        return whole, listed, +Counter(busy)


def ends(up, bodies, *, timeout_s=120):
    """Wait until nothing is under way any more; the keys that are stored and those that are listed."""
    found = []

    def settled():
        try:
            found[:] = [asyncio.run(state_of(up, bodies))]
        except (OSError, RuntimeError) as error:
            found[:] = [error]
            return False
        return not found[0][2] and found[0][0] | found[0][1] >= set(bodies)

    until(settled, "everything ends", timeout_s=timeout_s)
    return found[0][0], found[0][1]


def moving(origin, bodies, number):
    until(lambda: len(set(bodies).intersection(origin.asked)) >= number, "the workers are at it")


def pid_with(up, words):
    return next(pid for pid, line in descendants(up.process.pid).items() if words in line)


def test_a_killed_worker_leaves_nothing_undone_and_what_it_stored_counts_as_stored(tmp_path, origin, config):
    """S11: its successor knows the objects by their attempt, and asks the origin only for what is missing."""
    with running_up(tmp_path, origin.url, extra=config) as up:
        bodies = bodies_of(origin, "w", 150)
        # Large enough to be sent in parts: one is in the store when its worker is killed.
        bodies["w/0100.bin"] = origin.bodies["w/0100.bin"] = random.Random(1).randbytes(24 << 20)
        half_sent, go = origin.gate("w/0100.bin")
        assert post(up, bodies)[1]["accepted"] == len(bodies)
        assert half_sent.wait(PATIENCE_S)
        until(lambda: sum(map(origin.asked.count, bodies)) == len(bodies), "all but one are under way")
        until(lambda: asyncio.run(state_of(up, {}))[2]["uploads"] > 0, "a part is in the store")
        master = pid_with(up, "--queues hot")
        os.kill(next(iter(descendants(master))), signal.SIGKILL)
        go.set()
        stored, listed = ends(up, bodies)
        assert (stored, listed) == (set(bodies), set())
        assert up.restarted("worker hot")

        async def counts():
            async with parts(up) as (ledger, _, _):
                return await ledger.outcomes.counts("site")

        counted = asyncio.run(counts())
        assert counted.get(("rule-1", "already_present"), 0) == 0
        asked = Counter(origin.asked)
        assert max(asked[key] for key in bodies) <= 2
        assert asked["w/0100.bin"] == 2


def test_a_redis_that_is_killed_again_and_again_loses_no_accepted_event(tmp_path, origin, config):
    with running_up(tmp_path, origin.url, extra=config) as up:
        accepted = {}
        for turn in range(4):
            bodies = bodies_of(origin, f"r{turn}", 60)
            until(lambda some=bodies: post(up, some)[0] == 202, "the events are taken")
            accepted |= bodies
            killed = pid_with(up, "valkey-server")
            os.kill(killed, signal.SIGKILL)
            refused = bodies_of(origin, f"refused{turn}", 1)
            assert post(up, refused)[0] in {202, 503}
            until(lambda old=killed: _restarted(up, old), "it is started again")
        stored, listed = ends(up, accepted)
        assert (stored, listed) == (set(accepted), set())


def _restarted(up, old):
    lines = descendants(up.process.pid)
    return any("valkey-server" in line and pid != old for pid, line in lines.items())


def test_messages_that_redis_handed_out_into_the_void_are_worked_off(tmp_path, origin, config):
    """A worker that lives is never asked for what it was given: it has to notice what did not arrive."""
    with running_up(tmp_path, origin.url, extra=config) as up:
        bodies = bodies_of(origin, "v", 2)
        running, lost = bodies
        half_sent, go = origin.gate(running)
        post(up, [running])
        assert half_sent.wait(PATIENCE_S)
        workers = list(descendants(pid_with(up, "--queues hot")))

        async def hand_out():
            """Give the hot worker a message as the broker's script does, and keep the answer from it."""
            async with parts(up) as (_, queue, _):
                given = f"{queue._ns}:__acks__.*.hot"
                (of_the_worker,) = [name async for name in queue._redis.scan_iter(match=given)]
                message = await queue._redis.lpop(f"{queue._ns}:hot")
                assert await queue._redis.sadd(of_the_worker, message) == 1

        for pid in workers:  # so that it does not fetch the message itself
            os.kill(pid, signal.SIGSTOP)
        try:
            assert post(up, [lost])[1]["accepted"] == 1
            asyncio.run(hand_out())
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        until(lambda: lost in origin.asked, "it was found again")
        assert "stray_messages_returned" in up.output
        go.set()
        stored, listed = ends(up, bodies)
        assert (stored, listed) == (set(bodies), set())


@pytest.mark.parametrize("part", ["valkey-server", "weed"])
def test_a_server_that_stands_still_for_a_while_costs_time_and_nothing_else(tmp_path, origin, config, part):
    with running_up(tmp_path, origin.url, extra=config) as up:
        bodies = bodies_of(origin, "s", 300)
        assert post(up, bodies)[1]["accepted"] == len(bodies)
        moving(origin, bodies, 50)
        stopped = pid_with(up, part)
        os.kill(stopped, signal.SIGSTOP)
        go_on = threading.Timer(20.0, os.kill, (stopped, signal.SIGCONT))
        go_on.start()
        try:
            body = origin.bodies.setdefault("asked/meanwhile", b"x" * 1000)
            status, _, got = up.get("/site/asked/meanwhile")
            assert status in {200, 503}
            assert got == body or status == 503
        finally:
            go_on.join()
        stored, listed = ends(up, bodies)
        assert (stored, listed) == (set(bodies), set())
        assert alive(stopped), "it only stood still"


def test_an_installation_that_is_killed_goes_on_where_it_was(tmp_path, origin, config):
    bodies = bodies_of(origin, "u", 300)
    with running_up(tmp_path, origin.url, extra=config) as up:
        assert post(up, bodies)[1]["accepted"] == len(bodies)
        moving(origin, bodies, 50)
        below = descendants(up.process.pid)
        up.process.kill()
        up.process.wait(PATIENCE_S)
        until(lambda: not any(alive(pid) for pid in below), "nothing is left over")
    with running_up(tmp_path, origin.url, extra=config) as up:
        stored, listed = ends(up, bodies)
        assert (stored, listed) == (set(bodies), set())
        assert not list(Path(up.data_dir).rglob("*.tmp"))
