"""A runner of batches over the real Redis, with a move of our own."""

from __future__ import annotations

import time
from types import SimpleNamespace

from workers.answers import Attempt
from workers.errors import (
    OriginsExhausted,
)
from workers.ledger.ledger import Ledger
from workers.plan import (
    Batch,
    FetchItem,
    FetchPlan,
    Lane,
    Origin,
    OriginGroup,
    Stored,
    decode_batch,
    encode_batch,
)
from workers.queue.leases import LeaseKeeper
from workers.queue.queue import JobQueue
from workers.queue.runner import BatchRunner
from workers.settings import BrokerSettings, LimitSettings

PLAN = FetchPlan(bucket="site", rule="r", epoch=3, groups=(OriginGroup(primary=Origin(host="o.example")),))


class Setup:
    """One worker's runner, and what it is told: which rule is in force, what moving a key ends with."""

    def __init__(self, url):
        self.broker = BrokerSettings(url=url, namespace="run")
        self.ledger = Ledger.open(self.broker)
        self.queue = JobQueue.open(self.broker)
        self.live = True
        self.moves = {}
        self.calls = []
        self.seen = []
        self.runner = self.make()

    def make(self, **limits):
        return BatchRunner(
            ledger=self.ledger,
            queue=self.queue,
            mover=self,
            epochs=SimpleNamespace(is_live=self.is_live),
            leases=LeaseKeeper(self.ledger.claims, owner="me"),
            limits=LimitSettings(max_attempts=3, drain_s=0.2, **limits),
            observer=SimpleNamespace(
                finished=lambda *a: self.seen.append(a[1]),
                failed=lambda _, why, listed: self.seen.append((why, listed)),
            ),
        )

    async def is_live(self, bucket, rule, epoch):
        return self.live

    async def move(self, plan, item, this, *, lane):
        self.calls.append((item.key, item.attempt, this.attempt, this.look_first))
        result = self.moves.get(item.key, Stored(key=item.key, size=5, etag="e", origin="o", url="u"))
        if callable(result):
            result = await result()
        if isinstance(result, Exception):
            raise result
        return result

    async def run(self, *keys, **more):
        items = tuple(FetchItem(key=key, path=key, position=at) for at, key in enumerate(keys))
        more = {"id": "m1", "missing_at": time.time()} | more
        batch = Batch(plan=PLAN, items=items, **more)
        await self.runner.run(encode_batch(batch))

    async def delayed(self, lane=Lane.HOT):
        rows = await self.queue._redis.hgetall(f"run:delayed:{lane}.msgs")
        return [decode_batch(__import__("json").loads(row)["kwargs"]["batch"]) for row in rows.values()]

    async def waiting(self, lane=Lane.HOT):
        rows = await self.queue._redis.hgetall(f"run:{lane}.msgs")
        return [decode_batch(__import__("json").loads(row)["kwargs"]["batch"]) for row in rows.values()]


def exhausted(last):
    return OriginsExhausted("all failed", attempts=[Attempt(origin="o", error=last.reason)], last=last)


async def claimed(setup, *keys, owner="d"):
    states = await setup.ledger.claims.claim_many("site", keys, lane=Lane.HOT, owner=owner)
    await setup.ledger.claims.mark_queued("site", keys, lane=Lane.HOT, owner=owner)
    return states
