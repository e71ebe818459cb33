"""A few schedules of `make simulate`, and what it rests on: a seed is a schedule, bugs are found."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys

import pytest

from simulation.__main__ import main
from simulation.gate import GateWorld
from simulation.loop import PROCESS, NothingLeft, SimulatedLoop
from simulation.part import world_of
from simulation.plants import PLANTS
from simulation.redis_model import RedisModel
from torture.plants import planted


@pytest.mark.parametrize("seed", range(1, 9))
def test_whatever_fails_nothing_is_lost_overwritten_or_brought_back(seed, tmp_path):
    world = world_of(seed, tmp_path)
    result = world.run()
    assert not result.violations, "\n".join([*result.events, *result.violations])
    assert result.answers[world.shown_by] > 0


@pytest.mark.parametrize("seed", [5, 13, 21, 29])
def test_an_open_gate_has_proved_what_it_says_and_it_opens_when_it_may(seed, tmp_path):
    world = world_of(seed, tmp_path)
    assert isinstance(world, GateWorld)
    result = world.run()
    assert not result.violations, "\n".join([*result.events, *result.violations])
    assert any("gate: " in event for event in result.events)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_forty_schedules_are_without_a_violation():
    assert main(["--schedules", "40", "--first", "1000"]) == 0


def test_the_same_seed_is_the_same_schedule_in_this_process_and_in_any_other(tmp_path):
    seeds = (1, 3, 7, 13)
    here = [[world_of(seed, tmp_path).run() for _ in range(2)] for seed in seeds]
    script = (
        "import sys; from pathlib import Path; from simulation.part import world_of\n"
        f"for seed in {seeds}: print(*world_of(seed, Path(sys.argv[1])).run().events, sep=chr(10))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path], env=environment, check=True, capture_output=True, text=True
    )
    for one, again in here:
        assert (one.steps, one.events) == (again.steps, again.events)
    events = [line for one, _ in here for event in one.events for line in event.splitlines()]
    assert run.stdout.splitlines() == events


@pytest.mark.parametrize("name", PLANTS)
def test_each_plant_still_has_its_place(name, tmp_path):
    planted(name, tmp_path, PLANTS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_bug_is_found(name, capfd):
    first = "2700" if name == "whoever stood still asks whether he still may" else "0"  # 3 minutes from 0 on
    assert main(["--plant", name, "--schedules", "400", "--first", first]) == 1
    assert "VIOLATED, seed" in capfd.readouterr().out


def test_time_passes_only_when_nobody_has_anything_to_do():
    loop = SimulatedLoop(random.Random(1))

    async def day():
        await asyncio.sleep(86_400)
        return loop.time()

    assert loop.run_until_complete(day()) == 86_400
    with pytest.raises(NothingLeft):
        loop.run_until_complete(loop.create_future())
    loop.end()


def test_a_killed_process_does_nothing_more_and_a_frozen_one_only_later():
    loop = SimulatedLoop(random.Random(1))
    did = []

    async def process(name):
        try:
            await asyncio.sleep(1)
            did.append((name, loop.time()))
        finally:
            did.append(f"{name} ended")

    async def watch():
        for name in ("killed", "frozen"):
            PROCESS.set(name)
            loop.create_task(process(name))
        PROCESS.set("")
        await asyncio.sleep(0.5)
        loop.kill("killed")
        loop.frozen.add("frozen")
        loop.call_later(5, loop.frozen.discard, "frozen")
        await asyncio.sleep(10)

    loop.run_until_complete(watch())
    assert did == [("frozen", 5.5), "frozen ended"]
    loop.end()


def test_the_model_of_redis_expires_and_runs_scripts():
    now = 0.0
    redis = RedisModel(lambda: now)
    redis.set("k", "v", px=1000)
    assert redis.eval("return {redis.call('get', KEYS[1]), redis.call('get', 'no'), 3}", ["k"], []) == [
        "v",
        None,
        3,
    ]
    now = 1.0
    assert redis.get("k") is None
    assert redis.set("k", 1, nx=True) == "OK"
    assert redis.set("k", 2, nx=True) is None
