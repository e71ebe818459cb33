"""Buckets that a file brought while processes run: served by all, and taken away with the file."""

from __future__ import annotations

import asyncio
import time

import fakeredis
import pytest

from scheduler.config.settings import Settings
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.rules.in_force.buckets import ServedBuckets, following_buckets
from scheduler.rules.in_force.repository import RulesRepository


def settings(**buckets) -> Settings:
    return Settings.model_validate({"buckets": buckets})


RULES = {"rules": [{"origins": ["http://a.example"]}]}


async def until(holds) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


def repository(server) -> RulesRepository:
    return RulesRepository(fakeredis.FakeAsyncRedis(server=server, decode_responses=True), poll_s=0.02)


@pytest.fixture
async def other(server):
    """Another process, that was started with `site` alone."""
    there = repository(server)
    served = ServedBuckets(settings(site={"access": "signed"}).buckets)
    made: list[str] = []

    async def make(bucket: str) -> None:
        assert bucket not in served, "it is made before it is served"
        made.append(bucket)

    await there.start()
    async with following_buckets(served, there.published, make):
        yield served, made
    await there.close()


async def test_a_new_bucket_of_the_file_is_served_by_every_process_as_the_file_says(server, other):
    served, made = other
    version = served.version
    new = {"access": "signed", "hosts": ["new.example"], **RULES}
    await apply_file_rules(repository(server), settings(site=RULES, new=new))
    await until(lambda: "new" in served)
    assert (served["new"].access, served["new"].hosts, served["new"].rules) == (
        "signed",
        ("new.example",),
        (),
    )
    assert made == ["new"]
    assert served.version > version


async def test_what_a_process_was_started_with_stays_as_it_is_until_its_restart(server, other):
    served, _ = other
    await apply_file_rules(repository(server), settings(site={"access": "public"}, new={}))
    await until(lambda: "new" in served)
    assert served["site"].access == "signed"
    assert served["new"].rules is None, "the API owns its rules"


async def test_a_bucket_that_the_file_no_longer_names_is_served_no_more(server, other):
    served, _ = other
    here = repository(server)
    await apply_file_rules(here, settings(site={}, new=RULES))
    await until(lambda: "new" in served)
    await apply_file_rules(here, settings(logs={}), withdraw=False)
    await until(lambda: "logs" in served)
    assert set(served) == {"site", "new", "logs"}, "a consumer's file does not speak for all"
    await apply_file_rules(here, settings(other={}))
    await until(lambda: set(served) == {"site", "other"})


async def test_without_redis_a_new_bucket_is_served_here_and_everywhere_once_it_is_back(server, other):
    served, _ = other
    here = repository(server)
    mine = ServedBuckets({})

    async def make(_bucket: str) -> None: ...

    await here.start()
    async with following_buckets(mine, here.published, make):
        server.connected = False
        await apply_file_rules(here, settings(new=RULES))
        await until(lambda: "new" in mine)
        assert "new" not in served
        server.connected = True
        await until(lambda: "new" in served)
    await here.close()
