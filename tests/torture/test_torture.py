"""The suite of random faults: its own parts, and a minute of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import redis

from torture import checks
from torture.around.messages import move_list, put_other_versions, put_twice
from torture.content import at_origin, body_of
from torture.oracle import ABSENT, Oracle, value_of
from torture.people.clients import Numbers
from torture.plants import _HOUSE, PLANTS
from torture.schedule import CALM_S, LINKS, ORIGINS, Kind, from_json, make_schedule
from torture.shrink import needed
from torture.system import System
from workers.plan import decode_batch


def test_a_seed_makes_the_same_faults_again_and_another_one_others():
    faults = make_schedule(7, seconds=600)
    assert faults == make_schedule(7, seconds=600)
    assert faults != make_schedule(8, seconds=600)
    assert all(fault.at_s % 60 >= CALM_S - 0.01 for fault in faults)
    for seed in range(20):  # so that a bug which only one kind shows is found within minutes
        assert {fault.kind for fault in make_schedule(seed, seconds=150)} == set(Kind)
    assert Kind.KILL not in {
        fault.kind for fault in make_schedule(1, seconds=6000, without=frozenset({Kind.KILL}))
    }


def test_a_schedule_comes_back_from_its_file():
    faults = make_schedule(3, seconds=60)
    assert from_json([fault.to_json() for fault in faults]) == faults


def test_the_oracle_allows_what_is_sent_and_after_the_answer_nothing_else():
    oracle, began = Oracle(), time.monotonic()
    assert oracle.possible("rw/1", began) == {ABSENT}
    oracle.begins("rw/1", "new")
    assert oracle.possible("rw/1", began) == {ABSENT, "new"}
    oracle.ended("rw/1", "new")
    assert oracle.possible("rw/1", time.monotonic()) == {"new"}
    assert oracle.possible("rw/1", began) == {ABSENT, "new"}, "whoever asked before may have seen both"


def test_a_write_without_an_answer_may_land_for_ever():
    oracle = Oracle()
    oracle.begins("rw/1", "lost")
    oracle.unknown("rw/1", "lost")
    oracle.begins("rw/1", ABSENT)
    oracle.ended("rw/1", ABSENT)
    assert oracle.possible("rw/1", time.monotonic()) == {ABSENT, "lost"}


def test_a_deleted_key_is_absent_though_the_origin_has_it_unless_redis_forgot():
    oracle = Oracle()
    origins = value_of(body_of("rw/2"))
    assert at_origin("rw/2")
    assert oracle.possible("rw/2", time.monotonic()) == {origins}
    since = time.monotonic()
    oracle.begins("rw/2", ABSENT)
    oracle.ended("rw/2", ABSENT)
    oracle.want("pub/1")
    assert oracle.possible("rw/2", time.monotonic()) == {ABSENT}
    oracle.forgotten(since)
    assert oracle.possible("rw/2", time.monotonic()) == {ABSENT, origins}
    assert (set(oracle.wanted), oracle.lost) == (set(), {"pub/1"})


def test_an_origin_that_changes_leaves_both_contents_possible():
    oracle = Oracle()
    oracle.changed("flux/1")
    assert oracle.possible("flux/1", time.monotonic()) == {
        value_of(body_of("flux/1", version)) for version in (0, 1)
    }


@pytest.mark.parametrize(
    "culprits", [(), (5,), (0, 19), (3, 4, 11), tuple(range(20))], ids=["none", "one", "ends", "three", "all"]
)
def test_only_the_faults_that_are_needed_are_left(culprits):
    tries = []

    def goes_wrong(faults):
        tries.append(faults)
        return set(culprits) <= set(faults)

    assert needed(tuple(range(20)), goes_wrong) == culprits
    assert len(tries) < 100


INSIDE = """
import datetime, os, pathlib, socket, sys, time
wrong = time.time() - float(sys.argv[1])
assert abs(datetime.datetime.now(datetime.UTC).timestamp() - time.time()) < 1
assert abs(datetime.datetime.utcnow().replace(tzinfo=datetime.UTC).timestamp() - time.time()) < 1
assert type(datetime.datetime.now()) is datetime.datetime
file = pathlib.Path(os.environ["TORTURE_DATA"], "consume", "log.json")
with file.open("w") as opened:
    opened.write("on the disk")
    opened.flush()
    if sys.argv[2] == "synced":
        os.fsync(opened.fileno())
with file.open("a") as opened:
    opened.write(", not on the disk")
with socket.socket() as way:
    way.connect(("127.0.0.1", int(sys.argv[3])))
    assert way.recv(10) == b"the cable"
print(round(wrong))
"""


@pytest.mark.parametrize(("flushed", "left"), [("synced", "on the disk"), ("not", "")])
def test_a_part_has_the_wrong_time_its_own_cable_and_after_a_power_loss_what_was_flushed(
    tmp_path, flushed, left
):
    system = System(tmp_path, Oracle(), seed=1)
    system._processes["consumer"] = subprocess.Popen(["sleep", "60"], start_new_session=True)
    cable = socket.create_server(("127.0.0.1", 0))
    for link in LINKS:
        system.cables[link] = SimpleNamespace(port=cable.getsockname()[1] if link == "consumer>bucket" else 1)
    system.origins = {name: SimpleNamespace(port=number) for number, name in enumerate(ORIGINS, start=2)}
    for folder in (system.disk.data / "consume", system.disk.synced):
        folder.mkdir(parents=True)
    system.set_clock("consumer", -600.0)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", INSIDE, str(time.time()), flushed, str(system.origins["bucket"].port)],
        env=system.environment("consumer"), stdout=subprocess.PIPE, text=True,
    ) as process, cable:  # fmt: skip
        cable.settimeout(30)
        taken, _ = cable.accept()
        with taken:
            taken.sendall(b"the cable")
            wrong_s, _ = process.communicate()
    assert process.returncode == 0
    assert int(wrong_s) in range(-600, -540)
    system.lose_power("consumer")
    assert not system.runs("consumer")
    assert (system.disk.data / "consume" / "log.json").read_text() == left
    system.loop.stop()


def test_a_clock_is_wrong_by_the_same_in_a_replay():
    (fault, *_) = [one for one in make_schedule(1, seconds=600) if one.kind is Kind.CLOCK]
    assert from_json([fault.to_json()])[0].wrong_s == fault.wrong_s != 0


@pytest.mark.real
def test_messages_are_kept_back_given_back_and_made_of_other_versions(valkey_url):
    numbers, oracle = Numbers(), Oracle()
    system = SimpleNamespace(oracle=oracle, origins={n: SimpleNamespace(port=9000 + n) for n in (1, 2)})
    with redis.Redis.from_url(valkey_url) as client:
        client.flushdb()
        put_other_versions(client, system, numbers)
        written = [json.loads(data)["kwargs"]["batch"] for data in client.hvals("ferryman:hot.msgs")]
        assert sorted(batch["v"] for batch in written) == [1, 1, 2]
        assert {item["key"] for batch in written for item in batch["items"]} == set(oracle.wanted)
        for batch in written:
            if batch["v"] == 1:
                assert decode_batch(batch).plan.groups[0].primary.host == "127.0.0.1:9001"
        move_list(client, "ferryman:hot", "torture:late:hot")
        assert (client.llen("ferryman:hot"), client.llen("torture:late:hot")) == (0, 3)
        move_list(client, "torture:late:hot", "ferryman:hot")
        put_twice(client)
        assert (client.llen("ferryman:hot"), client.llen("torture:late:hot")) == (6, 0)
        client.flushdb()


@pytest.mark.parametrize("name", PLANTS)
def test_each_planted_bug_still_has_its_place(name):
    for edit in PLANTS[name]:
        assert (_HOUSE / edit.file).read_text().count(edit.right) == 1


def torture(tmp_path, *arguments):
    """The suite as its user runs it: exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--seconds", "60", *arguments],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(_HOUSE / "tests")}, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=860,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_a_minute_of_random_faults_breaks_no_guarantee(tmp_path):
    code, said = torture(tmp_path, "--seed", "41")
    assert code == 0, said
    objects = re.search(r"(\d+) objects", said)
    assert objects is not None, said
    assert int(objects[1]) > 300, said
    assert "written" in said


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_a_planted_bug_is_found_and_can_be_had_again(tmp_path):
    """Whether the judge sees anything at all: without the check of tombstones deleted keys come back."""
    code, said = torture(tmp_path, "--seed", "1", "--plant", "tombstone check of a miss")
    assert code == 1, said
    assert "the origin's version 0" in said
    assert "replay: make faults REPLAY=faults-1.json" in said
    assert from_json(json.loads((tmp_path / "faults-1.json").read_text())["faults"])


@pytest.mark.parametrize(("busy", "wrong"), [([5, 4, 3, 2, 1, 0], False), ([5, 4, 3, 3, 3, 3, 3, 0], True)])
def test_what_ends_slowly_is_waited_for_and_what_stands_still_is_a_violation(busy, wrong, monkeypatch):
    now = 0.0

    def sleep(_):
        nonlocal now
        now += checks.SETTLE_S * 0.6

    monkeypatch.setattr(checks, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    left = iter(busy)
    look = SimpleNamespace(
        busy=lambda: +Counter(messages=next(left)), stored=set, failures=dict, uploads=list
    )
    oracle = Oracle()
    checks.settle(SimpleNamespace(oracle=oracle), look)
    assert bool(oracle.violations) == wrong
