"""One reading of everything, over fakeredis and a real Valkey; and the screens made of it."""

from __future__ import annotations

import contextlib
import io
import time
from types import SimpleNamespace

import fakeredis
import orjson
import pytest
from rich.console import Console

from scheduler import status as status_module
from scheduler.commands.status import screen
from scheduler.front.admin.metrics import take_over
from scheduler.rules.in_force.origin_budgets import BudgetPublisher, budgets_of
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Rule, RuleSet
from scheduler.scan.record.state import ScanOptions, ScanState, ScanStates
from scheduler.status import collect, to_json
from workers.broker.clients import connect
from workers.errors import OriginUnreachable
from workers.ledger.failures import Failure
from workers.ledger.ledger import Ledger
from workers.origin.control.control import OriginControl
from workers.plan import Batch, FetchItem, FetchPlan, Lane, Origin, OriginGroup
from workers.queue.queue import JobQueue
from workers.settings import BrokerSettings, BudgetSettings, OriginSettings
from workers.telemetry import metrics

A, B = "a.example", "b.example"


class Rules:
    """Rule sets in memory, as the repository shows them."""

    synced = True

    def __init__(self) -> None:
        self.sets: dict[str, RuleSet] = {}

    def buckets(self):
        return tuple(self.sets)

    def snapshot(self, bucket):
        return self.sets.get(bucket)


def ruleset(bucket: str, version: int, *budgets: tuple[str, BudgetSettings | None]) -> RuleSet:
    return RuleSet(
        bucket=bucket,
        version=version,
        rules=tuple(
            Rule(
                name=f"r{number}",
                origin=OriginPart(hosts=(HostGroup(primary=OriginHost(host=host)),), budget=budget),
            )
            for number, (host, budget) in enumerate(budgets)
        ),
    )


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
async def services(request):
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "real":
            broker = BrokerSettings(url=request.getfixturevalue("valkey_url"), ledger_db=3)
            redis, queue_redis = connect(broker, database=3), connect(broker, decode=False)
            await redis.flushdb()
            await queue_redis.flushdb()
        else:
            broker = BrokerSettings(url="redis://nowhere/0")
            server = fakeredis.FakeServer()
            redis = fakeredis.FakeAsyncRedis(server=server, db=1, decode_responses=True)
            queue_redis = fakeredis.FakeAsyncRedis(server=server, db=0)
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(queue_redis.aclose)
        control = await stack.enter_async_context(OriginControl(OriginSettings(), redis=redis))
        yield SimpleNamespace(
            settings=SimpleNamespace(buckets={"site": None}),
            redis=redis,
            ledger=Ledger(redis),
            queue=JobQueue(queue_redis, broker),
            rules=Rules(),
            control=control,
        )


async def test_everything_is_read_at_once(services):
    plan = FetchPlan(bucket="site", rule="images", groups=(OriginGroup(primary=Origin(host=A)),))
    item = FetchItem(key="k", path="k")
    await services.queue.enqueue_many([Batch(plan=plan, items=(item,), lane=Lane.COLD)])
    await services.queue.heartbeat("worker-1", member="host:1:hot:1")
    await services.ledger.outcomes.count("site", {("images", "stored"): 5, ("images", "bytes"): 1000})
    failure = Failure(bucket="site", key="x", reason="origin_timeout", message="m", rule="images")
    await services.ledger.failures.add([failure])
    written = int(time.time()) // 60
    await services.ledger.minutes.write("front", "f1", written - 3, {"hit": 1})
    state = ScanState(
        name="s", run="r1", options=ScanOptions(bucket="site", inventory={"manifest": "urls.csv"})
    )
    await ScanStates(services.redis, namespace="ferryman").put(state)
    file = {"path": "/var/log/x", "lag_bytes": 77, "lag_s": 2.5, "misses": 9}
    consumer = orjson.dumps({"at": time.time() - 1, "files": [file]})
    await services.redis.hset("ferryman:consumers", "c1", consumer)
    services.control.succeeded(A, 0.02)
    for _ in range(5):
        services.control.failed(B, OriginUnreachable("x", origin=B))
    services.control._reported_at = 0.0
    await services.control._sync()

    found = await collect(services)

    assert found.problems == {}
    assert [(queue.lane, queue.waiting) for queue in found.queues] == [("hot", 0), ("cold", 1)]
    assert found.workers == 1
    assert found.rules[0].counts == {"stored": 5, "bytes": 1000}
    assert found.failures == {"site": 1}
    assert found.failure_reasons == {"origin_timeout": 1}
    assert [(origin.host, origin.state.value) for origin in found.origins] == [(A, "well"), (B, "out")]
    assert found.origins[0].answers == 1
    assert 0.015 < found.origins[0].p50_s < 0.03
    assert (found.consumers[0].lag_bytes, found.consumers[0].misses) == (77, 9)
    assert found.scans[0].name == "s"
    assert 3 <= found.watchers[0].silent_minutes <= 3 + int(time.time()) // 60 - written
    orjson.dumps(to_json(found))
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(screen(found))
    text = console.export_text()
    assert all(word in text for word in ("images", "origin_timeout", A, "/var/log/x", "cold"))
    take_over(found)
    rendered = metrics.render().decode()
    assert 'ferryman_queue_depth{queue="cold"} 1.0' in rendered
    assert 'ferryman_consumer_lag_bytes{log="/var/log/x"} 77.0' in rendered


async def test_a_part_that_cannot_be_read_is_a_problem_and_not_an_error(services, monkeypatch):
    async def broken(_services):
        raise OSError("gone")

    monkeypatch.setattr(status_module, "_scans", broken)
    found = await collect(services)
    assert set(found.problems) == {"scans"}
    assert found.queues


# ---------------------------------------------------------------- budgets of rules (F53)


def test_budgets_are_read_from_rules_by_host():
    slow, fast = BudgetSettings(concurrency=2), BudgetSettings(concurrency=9)
    found = budgets_of(ruleset("site", 1, (A, slow), (A, fast), (A, slow), (B, None)))
    assert found == {A: (slow, fast)}


async def test_a_rules_budget_reaches_a_worker_and_changes_with_the_rule(services):
    """F53, P36: the strictest value holds, and a change counts for what is queued already."""
    front = OriginControl(OriginSettings())
    publisher = BudgetPublisher(services.rules, front, services.redis, namespace="ferryman")
    worker = services.control
    (await worker.acquire(A, Lane.HOT, timeout_s=1)).release()

    async def concurrency() -> int | None:
        await publisher.once()
        await worker._sync()
        return worker.report()["hosts"][A]["concurrency"]

    assert await concurrency() is None
    services.rules.sets["site"] = ruleset("site", 4, (A, BudgetSettings(concurrency=8)))
    assert await concurrency() == 8
    services.rules.sets["other"] = ruleset("other", 5, (A, BudgetSettings(concurrency=3, requests_per_s=10)))
    assert await concurrency() == 3
    services.rules.sets["other"] = ruleset("other", 6, (A, None))
    assert await concurrency() == 8
    del services.rules.sets["site"]
    assert await concurrency() is None


async def test_an_older_view_of_the_rules_does_not_win(services):
    fresh, stale = Rules(), Rules()
    fresh.sets["site"] = ruleset("site", 9, (A, BudgetSettings(concurrency=2)))
    stale.sets["site"] = ruleset("site", 7, (A, BudgetSettings(concurrency=50)))
    for rules in (fresh, stale):
        await BudgetPublisher(
            rules, OriginControl(OriginSettings()), services.redis, namespace="ferryman"
        ).once()
    await services.control._sync()
    (await services.control.acquire(A, Lane.HOT, timeout_s=1)).release()
    assert services.control.report()["hosts"][A]["concurrency"] == 2
