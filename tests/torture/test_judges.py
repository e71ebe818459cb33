"""The judges of the random faults, and what they look at: oracle, old bucket, disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from torture import checks
from torture import oracle as oracles
from torture.around.bucket import OldBucket
from torture.around.network import Loop
from torture.around.origins import OldServer
from torture.checks import judge_processes, judge_scan
from torture.checks_back import judge_claim
from torture.content import body_of
from torture.disk import Disk
from torture.layout import BUDGET
from torture.oracle import ABSENT, LEASED_S, Oracle, value_of
from torture.people import operators
from torture.system import System
from workers.settings import BudgetSettings


def test_what_was_told_around_a_loss_of_redis_is_not_certain(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(oracles, "time", SimpleNamespace(monotonic=lambda: now))
    oracle = Oracle()
    assert oracle.is_certain(now)
    since = oracle.forgets()
    assert [oracle.is_certain(at) for at in (since - LEASED_S - 1, since - 1, since + 5000)] == [
        True,
        False,
        False,
    ]
    now += 2
    oracle.forgotten(since)
    assert [oracle.is_certain(at) for at in (now + LEASED_S - 1, now + LEASED_S + 1)] == [False, True]


def test_a_write_without_an_answer_is_as_uncertain_as_redis_was_then_until_a_later_one_is_answered(
    monkeypatch,
):
    now = 1000.0
    monkeypatch.setattr(oracles, "time", SimpleNamespace(monotonic=lambda: now))
    oracle = Oracle()
    oracle.begins("sync/4", "lost")
    since = oracle.forgets()
    oracle.unknown("sync/4", "lost")
    oracle.forgotten(since)
    now += 2 * LEASED_S
    oracle.begins("sync/4", "refused")
    oracle.unknown("sync/4", "refused")
    assert oracle.is_certain(oracle.told("sync/4"))
    assert not oracle.is_known("sync/4"), "nobody was told of the first, which may be what the store has"
    oracle.begins("sync/4", "answered")
    oracle.ended("sync/4", "answered")
    assert oracle.is_known("sync/4")


def test_the_oracle_knows_of_a_power_cut_before_anybody_can_ask_redis_again(tmp_path, monkeypatch):
    oracle = Oracle()
    system = System(tmp_path, oracle, seed=1)
    (tmp_path / "redis" / "appendonlydir").mkdir(parents=True)
    system._processes["redis"] = subprocess.Popen(["sleep", "60"], start_new_session=True)
    known = []
    monkeypatch.setattr(system, "start", lambda _: known.append(oracle.possible("rw/2", time.monotonic())))

    def deleted() -> None:  # while the cut is under way
        oracle.begins("rw/2", ABSENT)
        oracle.ended("rw/2", ABSENT)

    threading.Timer(0.1, deleted).start()
    system.power_cut(0.5)
    system.loop.stop()
    assert known == [{ABSENT, value_of(body_of("rw/2"))}]


class Scans:
    """A system that has nothing in it but scans that end as given."""

    def __init__(self, root, ends, *, forgot):
        self.root, self.ends, self.oracle = root, ends, Oracle()
        if forgot:
            self.oracle.forgotten(self.oracle.forgets())

    def command(self, *words, timeout_s=0.0):
        del timeout_s
        if words[1] == "status":
            total = {"found": 0, "bytes": 0, "pending": 0}
            told = json.dumps({"total": total, "read": 0, "duplicates": 0})
            return SimpleNamespace(returncode=0, stdout=told, stderr="")
        code, says = self.ends.pop(0)
        return SimpleNamespace(returncode=code, stdout="", stderr=says)


class Everything:
    """A store that has every key."""

    def stored(self):
        return self

    def __contains__(self, key):
        return True


BEFORE = (0, "scan site goes on with its run of 2026-11-29T17:38:02Z, whose inventory is what was read then")
LOST = (1, "100 keys are pending, and no message of the queue has them: Redis lost some of what it was told.")


@pytest.mark.parametrize(
    ("ends", "forgot", "wrong"),
    [
        ([(0, "")], False, False),
        ([LOST, (0, "")], True, False),  # it says to begin anew, and that is done
        ([LOST, (0, "")], False, True),  # Redis has lost nothing
        ([LOST, LOST], True, True),
        ([BEFORE, (0, "")], False, False),  # its list was the one before
        ([BEFORE, (1, "internal error")], False, True),
        ([(1, "internal error")], True, True),
    ],
)
def test_the_last_scan_is_begun_anew_where_redis_lost_messages_of_it_or_it_was_one_before(
    tmp_path, ends, forgot, wrong
):
    system = Scans(tmp_path, list(ends), forgot=forgot)
    judge_scan(system, Everything())
    assert bool(system.oracle.violations) is wrong, system.oracle.violations


class Verified:
    """A system whose last verification says this, where the list has three keys and the store lacks one."""

    def __init__(self, root, report):
        self.root, self.report, self.oracle = root, report, Oracle()
        (root / "keys.txt").write_text("pub/0\npub/1\npub/2\n")

    def command(self, *_, **__):
        return SimpleNamespace(returncode=0, stdout=json.dumps(self.report), stderr="")


@pytest.mark.parametrize(
    ("report", "wrong"),
    [
        ({"clean": True, "checked": 3}, True),
        ({"clean": False, "checked": 3}, False),
        ({"clean": True, "checked": 2}, False),  # of the list before
    ],
)
def test_a_clean_verification_is_judged_by_the_list_that_it_is_of(tmp_path, monkeypatch, report, wrong):
    system = Verified(tmp_path, report)
    monkeypatch.setattr(operators, "_VERIFIED_EVERY_S", 0.0)
    verifier = operators.Verifier("v", system, None, seed=1)
    verifier.look = SimpleNamespace(stored=lambda: {"pub/0", "pub/1"})
    verifier.turn()
    assert bool(system.oracle.violations) is wrong


def test_a_key_is_settled_when_no_write_of_it_can_be_under_way(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(oracles, "time", SimpleNamespace(monotonic=lambda: now))
    oracle = Oracle()
    assert oracle.is_settled("back/1")
    oracle.begins("back/1", "new")
    assert not oracle.is_settled("back/1")
    oracle.ended("back/1", "new")
    assert oracle.is_settled("back/1")
    assert oracle.told("back/1") == now
    oracle.begins("back/1", "lost")
    oracle.unknown("back/1", "lost")
    assert not oracle.is_settled("back/1")
    now += LEASED_S + 1
    assert oracle.is_settled("back/1")


def test_a_claim_that_one_could_go_back_is_wrong_where_the_sides_differ():
    oracle = Oracle()
    oracle.begins("back/1", "new")
    oracle.ended("back/1", "new")
    ours, theirs = {"back/1": "new"}, {"back/1": "old"}
    system = SimpleNamespace(oracle=oracle, bucket=SimpleNamespace(contents=lambda: theirs))
    look = SimpleNamespace(contents=lambda _: ours)
    assert judge_claim(system, look, lambda: False) is None
    assert judge_claim(system, look, lambda: bool(oracle.begins("back/1", "newer") or True)) is True, (
        "touched"
    )
    oracle.ended("back/1", "newer")
    assert not oracle.violations
    assert judge_claim(system, look, lambda: True) is False
    assert "new in the store and old in the old bucket" in oracle.violations[0]


def ask(url, method="GET", body=None, **headers):
    """Status and body."""
    asked = urllib.request.Request(
        url, body, {n.replace("_", "-"): v for n, v in headers.items()}, method=method
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_delete_soon_after_redis_forgot_may_be_undone_by_a_pull_from_before(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(oracles, "time", SimpleNamespace(monotonic=lambda: now))
    oracle, origins = Oracle(), value_of(body_of("rw/2"))

    def delete() -> set[str]:
        oracle.begins("rw/2", ABSENT)
        oracle.ended("rw/2", ABSENT)
        return oracle.possible("rw/2", now + 0.5)

    assert delete() == {ABSENT}
    now += 1
    since = oracle.forgets()
    now += 1
    oracle.forgotten(since)
    now += LEASED_S - 1
    assert delete() == {ABSENT, origins}, "the claim of a pull that is under way is forgotten"
    now += 2
    assert delete() == {ABSENT}


@pytest.mark.parametrize(
    ("budget", "asked", "excused", "wrong"),
    [
        ({"requests_per_s": 5.0}, ["gone/1"] * 30, False, "requests more than 5 a second"),
        ({"requests_per_s": 5.0}, ["gone/1"] * 30, True, ""),
        (
            {"requests_per_s": 20.0},
            ["gone/1"] * 30,
            False,
            "",
        ),  # at once is what a bucket and its askers hold
        ({"bytes_per_s": 1e5}, ["big/1"], False, "bytes more than 100000 a second"),
        ({"bytes_per_s": 1e5}, ["big/1"], True, ""),
        ({"bytes_per_s": 20e6}, ["big/1"], False, ""),
    ],
)
def test_an_origin_counts_what_it_is_asked_for_a_second(budget, asked, excused, wrong):
    oracle, loop = Oracle(), Loop()
    stands = {"concurrency": 2, "requests_per_s": 1e6, "bytes_per_s": 1e9, **budget}
    origin = OldServer("origin", oracle, seed=1, budget=BudgetSettings(**stands))
    loop.run(origin.start())
    if excused:
        origin.excused_until = time.monotonic() + 60
    try:
        for key in asked:
            ask(f"http://127.0.0.1:{origin.port}/{key}")
    finally:
        loop.run(origin.stop())
        loop.stop()
    assert bool(oracle.violations) is bool(wrong), oracle.violations
    assert all(wrong in violation for violation in oracle.violations)


def test_the_old_bucket_knows_what_it_had_and_takes_only_what_was_written():
    oracle, loop = Oracle(), Loop()
    bucket = OldBucket("bucket", oracle, seed=1, budget=BUDGET)
    oracle.behind = bucket.had
    loop.run(bucket.start())
    url = f"http://127.0.0.1:{bucket.port}/old"
    before = time.monotonic()
    try:
        assert ask(f"{url}/back/2") == (200, body_of("back/2"))
        assert ask(f"{url}/back/1")[0] == 404
        assert ask(f"{url}/back/2?tagging") == (200, b"<Tagging><TagSet/></Tagging>")
        assert b"<Key>back/2</Key>" in ask(f"{url}/?list-type=2")[1]
        oracle.begins("back/2", value_of(b"new"))
        assert ask(f"{url}/back/2", "PUT", b"new")[0] == 200
        assert bucket.now("back/2") == value_of(b"new")
        assert not oracle.violations
        assert {value_of(b"new"), value_of(body_of("back/2"))} <= bucket.had("back/2", before)
        assert ask(f"{url}/back/2", "PUT", b"torn", Content_MD5="A" * 22 + "==")[0] == 400
        assert ask(f"{url}/back/2", "PUT", b"of nobody")[0] == 200
    finally:
        loop.run(bucket.stop())
        loop.stop()
    assert "back/2 got what nobody wrote" in oracle.violations[0]


def test_a_full_disk_tears_no_line_and_a_rotation_none(tmp_path):
    disk = Disk(tmp_path)
    disk.log.parent.mkdir()
    disk.log.touch()
    assert disk.write_line("one")
    assert disk.copy_truncate()
    assert disk.write_line("two")
    disk.rotate()
    assert disk.write_line("three")
    disk._torn = True  # as after a write that did not fit
    assert disk.write_line("four")
    lines = [disk.log.with_name(f"access.log{end}").read_text() for end in (".1", ".2", "")]
    assert lines == ["one\n", "two\n", "three\n\nfour\n"]


def test_a_process_that_has_outlived_its_part_is_named(tmp_path, monkeypatch):
    oracle = Oracle()
    system = System(tmp_path, oracle, seed=1)
    monkeypatch.setattr(checks, "_BOOT_S", 0.1)
    part = "sleep 60 >/dev/null & echo $!"
    for config, wanted in ((tmp_path / "other.yaml", 0), (tmp_path / "config.yaml", 1)):
        done = subprocess.run(
            ["sh", "-c", part], env={**os.environ, "FERRYMAN_CONFIG": str(config)}, check=True,
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        judge_processes(system)
        pid = int(done.stdout)
        told = [f"process {pid} has outlived the part that started it: sleep 60 "] * wanted
        assert oracle.violations == told
        os.kill(pid, signal.SIGKILL)
    system.loop.stop()
