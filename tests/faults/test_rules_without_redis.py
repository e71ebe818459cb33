"""Rules while the real Redis is killed, comes back with its file, and comes back empty."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from scheduler.rules.in_force.repository import RulesRepository
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Rule
from support.patience import PATIENCE_S
from support.valkey import running_valkey
from workers.broker.clients import connect
from workers.errors import BrokerUnavailable
from workers.ledger.rule_epochs import RuleEpochs
from workers.settings import BrokerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.real


def rule(host: str) -> Rule:
    return Rule(name="images", origin=OriginPart(hosts=(HostGroup(primary=OriginHost(host=host)),)))


async def eventually(holds: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "not within its deadline"
        await asyncio.sleep(0.02)


async def test_rules_outlive_a_killed_redis_and_its_loss(tmp_path):
    """The snapshot stays in force throughout; what the file kept is found again; versions never go back."""
    directory = tmp_path / "valkey"
    directory.mkdir()
    with contextlib.ExitStack() as first:
        url = first.enter_context(running_valkey(directory=directory, appendfsync="always"))
        port = urlsplit(url).port
        client = connect(BrokerSettings(url=url))
        repository = RulesRepository(client, poll_s=0.1)
        await repository.start()
        await repository.replace("site", [rule("a.example")], owner="api", who="k", how="PUT ?origin")
        kept = await repository.replace("site", [rule("b.example")], owner="api", who="k", how="PUT ?origin")
    await eventually(lambda: not repository.synced)
    assert repository.snapshot("site").rules == (rule("b.example"),)
    with pytest.raises(BrokerUnavailable):
        await repository.replace("site", [rule("c.example")], owner="api", who="k", how="PUT ?origin")
    assert repository.snapshot("site").rules == (rule("b.example"),)

    with running_valkey(port=port, directory=directory, appendfsync="always"):
        await eventually(lambda: repository.synced)
        fresh = RulesRepository(client)
        assert (await fresh.read("site")).version == kept.version
        assert len(await fresh.history("site")) == 2
        assert await RuleEpochs(client).is_live("site", "images", kept.version)
    await eventually(lambda: not repository.synced)

    shutil.rmtree(directory)
    directory.mkdir()
    with running_valkey(port=port, directory=directory):
        await eventually(lambda: repository.synced)
        assert repository.snapshot("site").rules == (rule("b.example"),)
        again = await repository.replace("site", [rule("d.example")], owner="api", who="k", how="PUT ?origin")
        assert again.version > kept.version
        assert not await RuleEpochs(client).is_live("site", "images", kept.version)
        await repository.close()
        await client.aclose()
