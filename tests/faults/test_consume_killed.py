"""Guarantee 3 for logs: kill -9 of the consumer, at any moment, loses no miss."""

# ruff: noqa: ASYNC251 -- the world outside is other processes and threads; nothing runs in this loop meanwhile

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from support.intake import intake_services, queued_keys
from support.logs.consume import consuming, until, write_config
from support.logs.lines import WRITERS, Wanted

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


def line(key: str) -> bytes:
    return WRITERS["nginx"](Wanted(key=key, target=f"/{key}".encode())) + b"\n"


@pytest.fixture
def config(tmp_path, valkey_url):
    return write_config(tmp_path, valkey_url)


async def test_killed_again_and_again_over_rotations_no_miss_is_lost(tmp_path, config, valkey_url):
    log = tmp_path / "access.log"
    log.touch()
    keys: list[str] = []
    done = threading.Event()

    def write() -> None:
        rnd = random.Random(3)
        number = 0
        while not done.is_set():
            with log.open("ab") as file:
                for _ in range(rnd.randrange(1, 40)):
                    key = f"k/{number:06d}"
                    number += 1
                    # Written in two pieces now and then: the reader sees half a line.
                    whole = line(key)
                    file.write(whole[:20])
                    file.flush()
                    file.write(whole[20:])
                    keys.append(key)
            if number % 7 == 0 and log.stat().st_size > 20_000:
                for old in range(99, 0, -1):
                    source = log.with_name(f"access.log.{old}")
                    if source.exists():
                        source.rename(log.with_name(f"access.log.{old + 1}"))
                log.rename(log.with_name("access.log.1"))
                log.touch()
            time.sleep(0.02)

    async with intake_services(valkey_url) as services:
        with consuming(config, str(log), "--bucket", "site", "--from-start") as first:
            until(lambda: any((tmp_path / "data" / "consume").glob("*.json")), "the log is followed")
            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(1.0)
            first.send_signal(signal.SIGKILL)
        pauses = (0.05, 0.4, 1.1)
        for pause in pauses:
            with consuming(config, str(log), "--bucket", "site") as process:
                time.sleep(2.0 + pause)
                process.send_signal(signal.SIGKILL)
        done.set()
        writer.join()
        wanted = sorted(set(keys))
        with consuming(config, str(log), "--bucket", "site") as last:
            deadline = time.monotonic() + 60
            while (found := sorted(set(await queued_keys(services.queue)))) != wanted:
                assert time.monotonic() < deadline, (
                    f"{len(set(wanted) - set(found))} of {len(wanted)} are missing"
                )
                time.sleep(0.2)
            last.send_signal(signal.SIGTERM)
            assert last.wait(30) == 0
        # Between the queue's word and the claim's, or the checkpoint's, a death costs one more message a key.
        times = Counter(await queued_keys(services.queue))
        assert max(times.values()) <= 2 + len(pauses), "each death repeats at most what it interrupted"
        assert b"log_gap" not in (tmp_path / "consume.log").read_bytes()


async def test_a_redis_that_is_away_makes_it_wait_and_loses_nothing(tmp_path, valkey_url):
    from scheduler.config.ports import free_ports
    from support.valkey import running_valkey

    port = free_ports(1)[0]
    directory = tmp_path / "redis"
    directory.mkdir()
    log = tmp_path / "access.log"
    log.write_bytes(b"".join(line(f"a{n}") for n in range(50)))
    url = f"redis://127.0.0.1:{port}/0"
    config = write_config(tmp_path, url)
    with consuming(config, str(log), "--bucket", "site", "--from-start") as process:
        until(lambda: (tmp_path / "consume.log").stat().st_size > 0, "it says that Redis is away")
        time.sleep(1.5)
        assert process.poll() is None, (tmp_path / "consume.log").read_text()
        with running_valkey(port=port, directory=directory):
            from workers.queue.queue import JobQueue
            from workers.settings import BrokerSettings

            queue = JobQueue.open(BrokerSettings(url=url, namespace="t"))
            deadline = time.monotonic() + 60
            while len(await queued_keys(queue)) < 50:
                assert time.monotonic() < deadline, (tmp_path / "consume.log").read_text()
                time.sleep(0.2)
            await queue.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{dir}", "--bucket", "site", "--once"], "is a directory"),
        (["{dir}/none.log", "--bucket", "site", "--once"], "no such file"),
        (["{dir}/bad.log", "--bucket", "site", "--once"], "bad.log:1: no known log format"),
        (["{dir}/bad.log", "--bucket=site", "--once", "--format=nginx"], "bad.log:1: not in format 'nginx'"),
        (["{dir}/bad.log", "--bucket", "other", "--once"], "bucket 'other' is not configured"),
        (["{dir}/bad.log", "--bucket", "site", "--format", "ngnix"], "did you mean 'nginx'"),
        ([], "no FILE given"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_message_and_exit_2(tmp_path, config, valkey_url, arguments, message):
    (tmp_path / "bad.log").write_bytes(b"\x00\x01 rubbish\nand more\n")
    with consuming(config, *(one.replace("{dir}", str(tmp_path)) for one in arguments)) as process:
        assert process.wait(60) == 2
    said = (tmp_path / "consume.log").read_text()
    assert message in said
    assert "Traceback" not in said


def test_once_tells_what_it_did_as_json(tmp_path, config, valkey_url):
    import orjson

    log = tmp_path / "a.log"
    log.write_bytes(line("one") * 2 + line("two"))
    command = ["-P", "-m", "scheduler.cli", "consume", "--config", str(config), str(log), "--bucket", "site"]
    import sys

    out = subprocess.run(
        [sys.executable, *command, "--once", "--json"], capture_output=True, check=False, timeout=60
    )
    assert out.returncode == 0, out.stderr
    said = orjson.loads(out.stdout)
    assert (said["lines"], said["misses"], said["repeats"]) == (3, 3, 1)
    assert said["accepted"] + said["duplicate"] == 2
    assert said["files"][0]["format"] == "nginx"
