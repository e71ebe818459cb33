"""An installation with a past: many misses, listed failures and scans, and what looking at it costs Redis.

Work is counted in commands and in bytes that Redis answers, which no busy machine changes.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from scheduler.front.admin.app import make_app
from scheduler.front.admin.dashboard.board import Board
from scheduler.misses.event import MissEvent
from scheduler.rules.in_force.apply import apply_file_rules
from scheduler.scan.gate.gate import look
from scheduler.scan.record.scan_index import score_of
from scheduler.scan.record.state import Counts, ScanOptions, ScanState, ScanStates, dump
from scheduler.status import collect
from workers.ledger.failures import Failure, failure_to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from scheduler.runtime import Services

#: The last one is rare: one in a thousand.
REASONS = ("origin_timeout", "digest_mismatch", "origin_unreachable", "soft_404", "store_unavailable")
#: The scan that the gate is asked about.
NEWEST = "newest"
_AT_ONCE = 5000


def _failure(bucket: str, n: int, now: float) -> Failure:
    return Failure(
        bucket=bucket, key=f"p{n % 100}/some/folder/{n:08}.jpg", reason=REASONS[n % 4 if n % 1000 else 4],
        message="no byte within 10 s", rule="rule-1", last_at=now,
    )  # fmt: skip


async def miss(services: Services, bucket: str, numbers: range) -> None:
    """A key of each number is missed: every other one waits for a worker, the others no origin had."""
    await apply_file_rules(services.rules, services.settings, who="test")
    for at in range(0, len(numbers), _AT_ONCE):
        keys = [f"m{n % 100}/some/folder/{n:08}.jpg" for n in numbers[at : at + _AT_ONCE]]
        events = [MissEvent(bucket=bucket, key=key) for key in keys[::2]]
        report = await services.dispatcher.dispatch(events)
        assert report.accepted == len(events), report.accepted
        await services.ledger.claims.mark_absent(bucket, keys[1::2], ttl_s=3600.0)


async def fill(services: Services, bucket: str, *, failures: int, scans: int) -> None:
    """List so many failures, and put so many scans that are over on record, as their owners leave them."""
    namespace, now = services.settings.broker.namespace, time.time()
    reasons: Counter[str] = Counter()
    for at in range(0, failures, _AT_ONCE):
        rows = [_failure(bucket, n, now) for n in range(at, min(at + _AT_ONCE, failures))]
        reasons.update(row.reason for row in rows)
        wire = {row.key: orjson.dumps(failure_to_json(row)).decode() for row in rows}
        await services.redis.hset(f"{namespace}:failures:{bucket}", mapping=wire)
    if reasons:
        await services.redis.hset(f"{namespace}:failure-reasons:{bucket}", mapping=dict(reasons))
    options = ScanOptions(bucket=bucket, inventory={"manifest": "/data/urls.csv"})
    groups = {f"p{n}/": Counts(found=1000, present=900, sent=100) for n in range(10)}
    old = ScanState(name="", run="", options=options, phase="done", groups=groups)
    for at in range(0, scans, _AT_ONCE):
        states = [
            replace(old, name=f"old-{n:06}", run=f"run-{n:06}", requested_at=now - scans + n)
            for n in range(at, min(at + _AT_ONCE, scans))
        ]
        await services.redis.hset(f"{namespace}:scans", mapping={one.name: dump(one) for one in states})
        scores = {one.name: float(score_of(one.phase, one.requested_at)) for one in states}
        await services.redis.zadd(f"{namespace}:scans-index", scores)
    newest = replace(old, name=NEWEST, run="run-of-the-newest", requested_at=now, started_at=now)
    await ScanStates(services.redis, namespace=namespace).put(newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one look cost: Redis' commands and bytes answered, and seconds until it was over."""

    commands: int
    answered_bytes: int
    took_s: float


async def counted(services: Services, looking: Callable[[], Awaitable[Any]]) -> Work:
    """Do it, and tell what it cost."""
    before, began = await services.redis.info("stats"), time.perf_counter()
    await looking()
    took_s, after = time.perf_counter() - began, await services.redis.info("stats")
    spent = [
        int(after[name]) - int(before[name])
        for name in ("total_commands_processed", "total_net_output_bytes")
    ]
    return Work(commands=spent[0], answered_bytes=spent[1], took_s=took_s)


def looks(services: Services, token: str, *, bucket: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Everything that looks at the whole of an installation again and again, by its name."""

    async def gate() -> None:
        state = await ScanStates(services.redis, namespace=services.settings.broker.namespace).get(NEWEST)
        assert state is not None
        await look(services, state, quiet_s=86_400.0)

    def page(path: str) -> Callable[[], Awaitable[Any]]:
        async def get() -> None:
            async with Board(services) as board:  # which has read nothing yet
                transport = httpx.ASGITransport(make_app(services, board))
                headers = {"authorization": f"Bearer {token}"}
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://admin", headers=headers
                ) as client:
                    answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text)

        return get

    async def sample() -> None:
        async with Board(services) as board:
            await services.redis.delete(*await services.redis.keys("*:history:*") or ["none"])
            assert await board.sample(int(time.time()) // 60 - 1)

    return {
        "ferryman status": lambda: collect(services),
        "/metrics": page("/metrics"),
        "page": page("/"),
        "page, failures": page("/failures"),
        "page, failures of a rare reason": page(f"/failures?reason={REASONS[-1]}"),
        "page, scans": page("/scans"),
        "page, one scan": page(f"/scans/{NEWEST}"),
        "page, buckets": page("/buckets"),
        "page, one bucket": page(f"/buckets?bucket={bucket}&prefix=p1/"),
        "page, gate": page(f"/gate?scan={NEWEST}"),
        "page, the sample of a minute": sample,
        "gate": gate,
        "/v1/gate": page(f"/v1/gate/{NEWEST}"),
        "/v1/scans?limit=50": page("/v1/scans?limit=50"),
        "/v1/failures?limit=100": page("/v1/failures?limit=100"),
        "/v1/failures of a reason": page(f"/v1/failures?limit=100&reason={REASONS[0]}"),
        "/v1/back": page("/v1/back"),
    }
