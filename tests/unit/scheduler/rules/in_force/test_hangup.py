"""SIGHUP applies the configuration's rules again, without a restart."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import fakeredis

from scheduler.config.load import load_settings
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.rules.in_force.hangup import applying_on_hangup
from scheduler.rules.in_force.repository import RulesRepository

CONFIG = "buckets:\n  site:\n    rules: [{{name: r, prefix: img/, origins: ['https://{host}']}}]\n"


async def eventually(holds) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "not within its deadline"
        await asyncio.sleep(0.01)


async def test_a_signal_applies_the_file_and_a_wrong_file_changes_nothing(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(host="a.example"))
    repository = RulesRepository(fakeredis.FakeAsyncRedis(decode_responses=True))
    await apply_file_rules(repository, load_settings(file, env={}))
    reads = 0

    def read():
        nonlocal reads
        reads += 1
        return load_settings(file, env={})

    def host() -> str:
        return repository.snapshot("site").rules[0].origin.hosts[0].primary.host

    async with applying_on_hangup(repository, read):
        file.write_text(CONFIG.format(host="b.example"))
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: host() == "b.example")
        for wrong in ("buckets: [", "buckets:\n  site: {rules: [{name: r, typ: mirror}]}\n"):
            before = reads
            file.write_text(wrong)
            os.kill(os.getpid(), signal.SIGHUP)
            await eventually(lambda: reads > before)  # noqa: B023 - asked in this round
        file.write_text(CONFIG.format(host="c.example"))
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: host() == "c.example")
    history = await repository.history("site")
    assert [change.how for change in history] == ["SIGHUP", "SIGHUP", "configuration file"]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
