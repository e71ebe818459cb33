"""Whether Redis or Valkey answers, keeps what it is given, and is quick."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from scheduler.doctor import rights
from scheduler.doctor.model import Subject
from workers.broker.clients import ask_sentinels, connect
from workers.broker.following import Demoted
from workers.broker_address import database_of, sentinels_of
from workers.errors import described

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding
    from workers.settings import BrokerSettings

#: Median round trip in milliseconds above which every claim is felt.
SLOW_MS = 5.0
#: Share of `maxmemory` in use.
FULL = 0.8
#: What to do when the server refuses a write.
_WRITE_REMEDIES = (
    (Demoted, "point broker.url at the primary: this server is a replica"),
    (OutOfMemoryError, "give it more memory: nothing can be queued"),
    (NoPermissionError, "let the user write and run scripts on every key of both databases"),
)
#: Oldest version with everything that our scripts use.
OLDEST = (6, 2)


async def check(settings: Settings) -> list[Finding]:
    """The findings about the broker."""
    found = Subject("redis")
    redis = connect(settings.broker, database=settings.broker.ledger_db)
    try:
        await _sentinels(found, settings.broker)
        await redis.ping()
        await _rights(found, redis, settings.broker.namespace)
        info = await _info(redis)
        await _latency(found, redis)
        await _scripts(found, redis)
        await _writes(found, redis, settings.broker.namespace)
        if info:
            _version(found, info)
            await _kept(found, redis, info)
            _replicas(found, settings.broker, info)
            await _memory(found, redis, info)
    except (RedisError, OSError) as error:
        remedy = "check broker.url, its password and the network; or start `ferryman up`"
        found.failed("answers", described(error), remedy)
    finally:
        await redis.aclose()
    if settings.broker.ledger_db == database_of(settings.broker.url):
        remedy = "set broker.ledger_db to another number than the queue's: maintenance of the queue runs KEYS"
        found.warning("databases", "queue and ledger share one logical database", remedy)
    return found.findings


async def _sentinels(found: Subject, broker: BrokerSettings) -> None:
    """Whether each of them answers: a fail-over needs most of them."""
    answers = await ask_sentinels(broker)
    silent = [f"{place}: {problem}" for place, problem in answers.items() if problem]
    if silent:
        remedy = "start it, or correct broker.url, broker.sentinel_username and broker.sentinel_password"
        found.warning("sentinels", "; ".join(silent), remedy)
    elif answers:
        found.ok("sentinels", f"{len(answers)} answer")


async def _rights(found: Subject, redis: Redis, namespace: str) -> None:
    lacking = await rights.missing(redis, namespace)
    if lacking:
        remedy = f"give them to the user; all that it needs: {rights.acl_rules(namespace)}"
        found.failed("rights", f"the user lacks {' '.join(lacking)}", remedy)
    else:
        found.ok("rights", "the user may all that is needed")


async def _info(redis: Redis) -> dict[str, Any]:
    """What the server says of itself; nothing when it may not be asked, which `_rights` has told."""
    try:
        return dict(await redis.info())
    except NoPermissionError:
        return {}


def _replicas(found: Subject, broker: BrokerSettings, info: dict[str, Any]) -> None:
    """Whether there is somebody to fail over to."""
    number = int(info.get("connected_slaves") or 0)
    if number < broker.min_replicas:
        remedy = "start them, or lower broker.min_replicas: until then nothing is accepted"
        found.failed("replicas", f"{number} of broker.min_replicas {broker.min_replicas} follow", remedy)
    elif sentinels_of(broker.url) is None:
        return
    elif number == 0:
        found.warning("replicas", "none follows", "start one: there is nothing to fail over to")
    elif broker.min_replicas == 0:
        remedy = "set broker.min_replicas: 1 when a fail-over must not lose what was just accepted"
        found.warning("replicas", f"{number} follow, and may lag behind", remedy)
    else:
        found.ok("replicas", f"{number} follow, {broker.min_replicas} must have what is accepted")


async def _latency(found: Subject, redis: Redis) -> None:
    times = []
    for _ in range(21):
        began = time.perf_counter()
        await redis.ping()
        times.append((time.perf_counter() - began) * 1000)
    median = sorted(times)[10]
    if median > SLOW_MS:
        remedy = "put Redis near the processes: every claim and every batch waits for it"
        found.warning("latency", f"{median:.1f} ms a round trip", remedy)
    else:
        found.ok("latency", f"{median:.2f} ms a round trip")


async def _scripts(found: Subject, redis: Redis) -> None:
    try:
        await redis.eval("return redis.call('TIME')", 0)
    except ResponseError as error:
        found.failed(
            "scripts", f"Lua is not allowed: {error}", "give the user the rights +eval, +evalsha, +script"
        )
    else:
        found.ok("scripts", "Lua runs")


async def _writes(found: Subject, redis: Redis, namespace: str) -> None:
    """Whether a key can be written: not on a replica, without memory or disk, or without the right."""
    key = f"{namespace}:doctor"
    try:
        await redis.set(key, 1, ex=10)
        await redis.delete(key)
    except (ResponseError, Demoted) as error:
        remedies = [remedy for kind, remedy in _WRITE_REMEDIES if isinstance(error, kind)]
        remedy = remedies[0] if remedies else "look at the server's disk and log"
        found.failed("writes", f"a key cannot be written: {error}", remedy)
    else:
        found.ok("writes", "keys can be written")


def _version(found: Subject, info: dict[str, Any]) -> None:
    name = "Valkey" if "valkey_version" in info else "Redis"
    text = str(info.get("valkey_version") or info.get("redis_version") or "0")
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        found.failed("version", f"{name} {text}", "use Redis 6.2 or Valkey 7.2 at least")
    else:
        found.ok("version", f"{name} {text}")
    if info.get("cluster_enabled"):
        remedy = "use a server or a sentinel pair: the queue needs logical databases and many-key scripts"
        found.failed("cluster", "cluster mode is on", remedy)


async def _setting(redis: Redis, name: str) -> str | None:
    """A setting of the server; None where CONFIG is forbidden, as in many hosted ones."""
    try:
        return str((await redis.config_get(name)).get(name, ""))
    except ResponseError:
        return None


async def _kept(found: Subject, redis: Redis, info: dict[str, Any]) -> None:
    fsync = await _setting(redis, "appendfsync")
    if not info.get("aof_enabled"):
        remedy = "set `appendonly yes`; without it a restart loses queued work, which a scan must find again"
        found.warning("persistence", "the append-only file is off", remedy)
    elif fsync is None:
        remedy = "ask the provider for `appendfsync always`, or accept to lose the last second"
        found.warning("persistence", "append-only file on; how often it is synced cannot be seen", remedy)
    elif fsync == "always":
        found.ok("persistence", "append-only file, synced with every write")
    else:
        remedy = "set `appendfsync always` when nothing accepted may be lost by a power failure"
        found.warning("persistence", f"append-only file, appendfsync {fsync}: up to 2 s may be lost", remedy)
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        found.failed(
            "persistence", "the last write to disk failed", "look at the server's disk and log", of="disk"
        )
    if info.get("role") == "slave":
        found.failed("role", "this server is a replica", "point broker.url at the primary")


async def _memory(found: Subject, redis: Redis, info: dict[str, Any]) -> None:
    policy = info.get("maxmemory_policy") or await _setting(redis, "maxmemory-policy")
    limit, used = int(info.get("maxmemory") or 0), int(info.get("used_memory") or 0)
    if policy not in {None, "noeviction"}:
        remedy = "set `maxmemory-policy noeviction`: an evicted message is a lost object"
        found.failed("eviction", f"maxmemory-policy is {policy}", remedy)
    else:
        found.ok("eviction", "nothing is evicted" if policy else "the policy cannot be seen")
    if limit and used > limit * FULL:
        remedy = "give it more memory, or lower broker.max_queue_depth"
        found.warning("memory", f"{used / limit:.0%} of {limit / 2**20:.0f} MiB in use", remedy)
    else:
        of = f" of {limit / 2**20:.0f} MiB" if limit else ""
        found.ok("memory", f"{used / 2**20:.1f} MiB{of} in use")
