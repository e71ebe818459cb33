"""Alive and ready: /healthz says that the process answers, /readyz that what it needs answers too.

Owns the checks (Redis, store, at least one origin), their deadline and how long an answer is believed,
so that a load balancer that asks ten times a second costs the store one request. Both are open, and
tell no secret.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from workers.errors import FerrymanError, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio import Redis
    from starlette.requests import Request

    from scheduler.runtime import Services
    from workers.origin.control.control import OriginControl
    from workers.store.client import ObjectStore

#: Why something is not ready, or None when it is.
Check = Callable[[], Awaitable[str | None]]

#: Seconds for one check, and for which its answer is believed.
CHECK_TIMEOUT_S = 2.0
BELIEVED_S = 2.0


class Readiness:
    """Runs named checks together; its last answer holds for two seconds."""

    def __init__(self, checks: Mapping[str, Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._asked_at = float("-inf")
        self._problems: dict[str, str] = {}
        self._line = asyncio.Lock()

    async def problems(self) -> dict[str, str]:
        """What is not ready, by the name of its check; empty when all is well."""
        async with self._line:
            if self._clock() - self._asked_at > BELIEVED_S:
                answers = await asyncio.gather(*(self._ask(check) for check in self._checks.values()))
                self._problems = {
                    name: answer
                    for name, answer in zip(self._checks, answers, strict=True)
                    if answer is not None
                }
                self._asked_at = self._clock()
            return self._problems

    @staticmethod
    async def _ask(check: Check) -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await check()
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        except (FerrymanError, RedisError, OSError) as error:
            return described(error)


def redis_check(redis: Redis) -> Check:
    """Redis answers."""

    async def check() -> str | None:
        await redis.ping()
        return None

    return check


def store_check(store: ObjectStore, buckets: Iterable[str]) -> Check:
    """The store answers for a key that is not there, in the first bucket."""
    bucket = next(iter(buckets), None)

    async def check() -> str | None:
        if bucket is not None:
            await store.head(bucket, f".ferryman/ready-{uuid.uuid4().hex}")
        return None

    return check


def origins_check(control: OriginControl, hosts: Callable[[], Iterable[str]]) -> Check:
    """At least one of the hosts is not out; no hosts at all are no problem."""

    async def check() -> str | None:
        known = sorted(set(hosts()))
        if known and not any(control.health.usable(host) for host in known):
            return f"every origin is out: {', '.join(known[:10])}"
        return None

    return check


def origin_hosts(services: Services) -> list[str]:
    """Every host that a rule in force names: primaries and standbys."""
    found: dict[str, None] = {}
    for bucket in services.rules.buckets():
        rules = services.rules.snapshot(bucket)
        for rule in rules.rules if rules is not None else ():
            for group in rule.origin.hosts:
                for origin in (group.primary, *group.standbys):
                    found[origin.host] = None
    return list(found)


def readiness(services: Services) -> Readiness:
    """The checks of a process with all services."""
    return Readiness(
        {
            "redis": redis_check(services.redis),
            "store": store_check(services.store, services.settings.buckets),
            "origins": origins_check(services.control, lambda: origin_hosts(services)),
        }
    )


def health_routes(ready: Readiness) -> list[Route]:
    """/healthz and /readyz."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        problems = await ready.problems()
        body: dict[str, Any] = {"ready": not problems, "problems": problems}
        return JSONResponse(body, status_code=503 if problems else 200, headers={"cache-control": "no-store"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def routes(services: Services) -> list[Route]:
    """/healthz and /readyz of the admin side."""
    return health_routes(readiness(services))
