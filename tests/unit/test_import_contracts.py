"""Every import contract of pyproject.toml holds, and fails for an import that it is there to forbid."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).resolve().parents[2]
CONFIG = read_configuration(str(ROOT / "pyproject.toml"))
CONTRACTS = CONFIG["contracts_options"]
KINDS = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
}

#: For each contract, in their order, imports that would break it.
BREACHES = [
    [("workers.plan", "scheduler.config.settings")],
    [("workers.store.client", "workers.origin.wire.client"), ("workers.transfer", "workers.queue.runner"),
     ("workers.telemetry.log", "workers.origin.control.health"), ("workers.errors", "workers.plan")],
    [("workers.queue.runner", "workers.queue.process")],
    [("workers.origin.wire.client", "workers.origin.control.control"),
     ("workers.origin.control.health", "workers.origin.integrity.digest")],
    [("workers.store.write.upload", "workers.store.client"),
     ("workers.store.wire.transport", "workers.store.listing"),
     ("workers.store.probe.trial", "workers.store.write.upload")],
    [("workers.transfer", "redis"), ("workers.store.client", "dramatiq"),
     ("workers.origin.fetch.way", "redis")],
    [("workers.origin.control.balance", "aiohttp"), ("workers.origin.control.health", "redis"),
     ("workers.errors", "httpx"), ("workers.origin.integrity.promise", "aiohttp")],
    [("scheduler.rules.matching", "redis"), ("scheduler.rules.planning", "httpx"),
     ("scheduler.scan.compare.merge", "aiohttp"), ("scheduler.logs.formats.nginx", "redis"),
     ("scheduler.front.http.answer", "redis"), ("scheduler.misses.event", "httpx")],
    [("scheduler.rules.model", "scheduler.front.gateway"),
     ("scheduler.dispatch.dispatcher", "scheduler.runtime"),
     ("scheduler.config.settings", "scheduler.rules.model")],
    [("scheduler.rules.cos.read", "scheduler.rules.oss.read"),
     ("scheduler.rules.model", "scheduler.rules.planning")],
    [("scheduler.front.hit", "scheduler.front.gateway"),
     ("scheduler.front.http.answer", "scheduler.front.hit"),
     ("scheduler.front.pull.pump", "scheduler.front.miss.mirror")],
    [("scheduler.scan.record.state", "scheduler.scan.run"),
     ("scheduler.scan.inventory.entry", "scheduler.scan.compare.merge")],
    [("scheduler.front.gateway", "scheduler.scan.run"), ("scheduler.front.hit", "scheduler.logs.consumer")],
    [("scheduler.scan.gate.gate", "scheduler.front.admin.app"),
     ("scheduler.intake.accept", "scheduler.front.hit")],
    [("scheduler.dispatch.dispatcher", "workers.queue.actors")],
    [("workers.errors", "workers.plan"), ("scheduler.rules.matching", "scheduler.rules.planning"),
     ("workers.origin.wire.body", "workers.origin.wire.response")],
]  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(
        *CONFIG["session_options"]["root_packages"], include_external_packages=True, cache_dir=None
    )


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
