"""Rules of the configuration file: applied whole, again without effect, and withdrawn with the file (W9)."""

from __future__ import annotations

import asyncio
import time

import fakeredis
import pytest

from scheduler.config.settings import Settings
from scheduler.rules.in_force.apply import apply_file_rules, read_file_rules
from scheduler.rules.in_force.repository import RulesRepository
from scheduler.rules.problems import DocumentError


def settings(**buckets) -> Settings:
    return Settings.model_validate({"buckets": buckets})


def rules(*hosts: str):
    return {
        "rules": [
            {"name": f"r{n}", "prefix": f"{n}/", "origins": [f"http://{host}"]}
            for n, host in enumerate(hosts)
        ]
    }


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def repository(server) -> RulesRepository:
    return RulesRepository(fakeredis.FakeAsyncRedis(server=server, decode_responses=True), poll_s=0.02)


async def test_the_files_rules_are_put_in_force_and_owned_by_it_w9(repository):
    applied = await apply_file_rules(repository, settings(site=rules("127.0.0.1:1", "10.0.0.1"), api={}))
    assert (applied.changed, applied.unchanged, applied.withdrawn, applied.held) == (("site",), (), (), ())
    found = repository.snapshot("site")
    assert (found.owner, [rule.name for rule in found.rules]) == ("file", ["r0", "r1"])
    assert repository.snapshot("api") is None


async def test_applying_again_changes_nothing(repository):
    config = settings(site=rules("a.example"))
    await apply_file_rules(repository, config)
    version = repository.snapshot("site").version
    again = await apply_file_rules(repository, config)
    assert (again.changed, again.unchanged) == ((), ("site",))
    assert repository.snapshot("site").version == version
    assert len(await repository.history("site")) == 1


async def test_a_changed_file_makes_one_new_version(repository):
    await apply_file_rules(repository, settings(site=rules("a.example"), other=rules("a.example")))
    applied = await apply_file_rules(repository, settings(site=rules("b.example"), other=rules("a.example")))
    assert (applied.changed, applied.unchanged) == (("site",), ("other",))
    assert len(await repository.history("site")) == 2


async def test_rules_that_left_the_file_are_withdrawn_and_the_bucket_is_the_apis_w9(repository):
    await apply_file_rules(repository, settings(site=rules("a.example"), other=rules("a.example")))
    applied = await apply_file_rules(repository, settings(site={}, other=rules("a.example")))
    assert applied.withdrawn == ("site",)
    assert repository.snapshot("site") is None
    await repository.replace("site", (), owner="api", who="k", how="PUT ?origin")
    again = await apply_file_rules(repository, settings(site={}, other=rules("a.example")))
    assert again.withdrawn == ()
    assert repository.snapshot("site").owner == "api"


async def test_a_file_that_speaks_for_some_buckets_takes_nothing_from_the_others(repository):
    await apply_file_rules(repository, settings(site=rules("a.example"), logs=rules("b.example")))
    applied = await apply_file_rules(repository, settings(logs=rules("c.example")), withdraw=False)
    assert (applied.changed, applied.withdrawn) == (("logs",), ())
    found = repository.snapshot("site")
    assert (found.owner, len(found.rules)) == ("file", 1)


async def test_the_file_takes_over_what_the_api_had_w9(repository):
    await repository.replace("site", (), owner="api", who="k", how="PUT ?origin")
    await apply_file_rules(repository, settings(site=rules("a.example")))
    assert repository.snapshot("site").owner == "file"


async def test_one_wrong_document_changes_nothing_and_all_problems_are_told(repository):
    await apply_file_rules(repository, settings(site=rules("a.example")))
    wrong = settings(
        site=rules("b.example"),
        other={"rules": [{"name": "x", "origins": []}]},
        third={"rules": [{"name": "y", "typ": "mirror", "origins": ["http://a.example"]}]},
    )
    with pytest.raises(DocumentError) as refused:
        await apply_file_rules(repository, wrong)
    text = str(refused.value)
    assert "buckets.other.rules" in text
    assert "buckets.third.rules" in text
    assert repository.snapshot("site").rules[0].origin.hosts[0].primary.host == "a.example"


async def test_without_redis_the_files_rules_hold_here_and_everywhere_once_it_is_back(repository, server):
    server.connected = False
    await repository.start()
    applied = await apply_file_rules(repository, settings(site=rules("a.example")))
    assert applied.held == ("site",)
    assert repository.snapshot("site").owner == "file"
    server.connected = True
    deadline = time.monotonic() + 5
    while repository.snapshot("site").version == 0:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await repository.close()


def test_warnings_of_every_bucket_are_told():
    config = settings(
        site={"rules": [{"name": "x", "request": {"follow_query": True}, "origins": ["http://a.example"]}]}
    )
    found, warnings = read_file_rules(config)
    assert set(found) == {"site"}
    assert any("follow_query" in str(warning) for warning in warnings)
