"""Every import contract of pyproject.toml holds, and fails for an import that it is there to forbid."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).resolve().parents[2]
CONFIG = read_configuration(str(ROOT / "pyproject.toml"))
CONTRACTS = CONFIG["contracts_options"]
KINDS = {"forbidden": ForbiddenContract, "layers": LayersContract}

#: For each contract, in their order, imports that would break it.
BREACHES = [
    [("workers.plan", "scheduler.settings")],
    [("workers.store.client", "workers.origin.client"), ("workers.transfer", "workers.runner")],
    [("workers.transfer", "redis"), ("workers.store.client", "dramatiq"), ("workers.origin.way", "redis")],
    [("workers.origin.balance", "aiohttp"), ("workers.origin.health", "redis"), ("workers.errors", "httpx")],
    [("scheduler.rules.matching", "redis"), ("scheduler.rules.planning", "httpx"),
     ("scheduler.scan.merge", "aiohttp"), ("scheduler.logs.formats.nginx", "redis")],
    [("scheduler.rules.model", "scheduler.front.gateway"), ("scheduler.dispatch", "scheduler.runtime")],
    [("scheduler.front.gateway", "scheduler.scan.run"), ("scheduler.front.hit", "scheduler.logs.consumer")],
    [("scheduler.scan.gate", "scheduler.front.admin.app"), ("scheduler.logs.sink", "scheduler.front.hit")],
    [("scheduler.dispatch", "workers.actors")],
]  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*CONFIG["session_options"]["root_packages"], include_external_packages=True)


def contract(number: int):
    options = CONTRACTS[number]
    return KINDS[options["type"]](options["name"], CONFIG["session_options"], options)


def test_every_contract_has_an_import_that_breaks_it():
    assert len(BREACHES) == len(CONTRACTS)


@pytest.mark.parametrize("number", range(len(BREACHES)), ids=[one["name"] for one in CONTRACTS])
def test_a_contract_holds_and_fails_for_what_it_forbids(graph, number):
    one = contract(number)
    assert one.check(deepcopy(graph), verbose=False).kept
    for importer, imported in BREACHES[number]:
        assert importer in graph.modules
        broken = deepcopy(graph)
        broken.add_import(importer=importer, imported=imported)
        assert not one.check(broken, verbose=False).kept, f"{importer} may import {imported}"
