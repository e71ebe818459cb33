"""What all processes of the fleet know together about origins: Redis, and nothing else.

Owns the keys below; the scripts that write them are in `fleet_scripts`. Every script touches one key and
takes its time from the server (`TIME`), so that clocks of machines do not matter. Any failure of Redis is
`BrokerUnavailable`; what to do without it is the caller's business. `<ns>` is the configured namespace; the
logical database is the ledger's.

  <ns>:origin:<host>:slots    hash  process -> "<expires ms> <hot> <cold> <hot unmet> <cold unmet> <since ms>"
                                     leases of concurrency; one that is not renewed ends by itself
  <ns>:origin:<host>:tokens   hash   requests, bytes -> tokens; requests:at, bytes:at -> ms of the last refill
  <ns>:origin:<host>:try      string process that may make the half-open probe; expires
  <ns>:origins:out            hash   host -> "<until ms> <ejections in a row> <cause>"
  <ns>:origins:probing        hash   probe URL -> "<expires ms> <process>", the one prober of that URL
  <ns>:origins:probed         hash   probe URL -> "down" while its primary stands behind the standbys
  <ns>:origins:budgets        hash   bucket -> JSON of `rule_budgets`: what rules give to hosts (F53)
  <ns>:origins:members        zset   process -> ms until which its report counts
  <ns>:origins:report:<proc>  string JSON: what the process knows of each host; expires
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from workers.errors import BrokerUnavailable, WireError, described
from workers.origin.control import fleet_scripts
from workers.origin.control.health import Cause, Ejection
from workers.origin.control.rule_budgets import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from workers.origin.control.limits import Limits
    from workers.origin.control.rule_budgets import BucketBudgets

log = structlog.get_logger(__name__)

#: Seconds after which a call counts as failed.
CALL_TIMEOUT_S = 2.0
#: Milliseconds for which an ejection is remembered after its end, so that the next one is longer.
OUT_KEPT_MS = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Slots that this process may use until it renews; fewer than in use means: let those end."""

    hot: int
    cold: int
    #: Processes that know the host, this one included.
    members: int
    #: Of them those that Redis has not heard of for some seconds, and whose lease has not ended.
    silent: int
    #: Others wait for slots.
    others_wait: bool
    #: The lease was there before: neither new, nor ended, nor lost.
    known: bool


class Fleet:
    """The shared state, as one process reaches it; `process` is its name in there."""

    def __init__(self, redis: Redis, *, namespace: str, process: str) -> None:
        self._redis = redis
        self._ns = namespace
        self.process = process
        self._lease = redis.register_script(fleet_scripts.LEASE)
        self._take = redis.register_script(fleet_scripts.TAKE)
        self._eject = redis.register_script(fleet_scripts.EJECT)
        self._out = redis.register_script(fleet_scripts.OUT)
        self._hold = redis.register_script(fleet_scripts.HOLD)
        self._member = redis.register_script(fleet_scripts.MEMBER)

    # ------------------------------------------------------------ budgets

    async def lease(
        self,
        host: str,
        limits: Limits,
        *,
        cold_slots: int,
        using: tuple[int, int],
        wanted: tuple[int, int],
        ttl_s: float,
    ) -> Lease:
        """Renew this process's slots: `using` and `wanted` are (hot, cold)."""
        slots = -1 if limits.concurrency is None else limits.concurrency
        args = [self.process, int(ttl_s * 1000), slots, cold_slots, *using, *wanted]
        found = await self._run(self._lease, self._host_key(host, "slots"), args)
        hot, cold, members, unmet, known, silent = found
        return Lease(
            hot=int(hot),
            cold=int(cold),
            members=int(members),
            silent=int(silent),
            others_wait=int(unmet) > 0,
            known=int(known) == 1,
        )

    async def give_back(self, host: str) -> None:
        """This process needs no slot of the host any more."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._redis.hdel(self._host_key(host, "slots"), self.process)

    async def take(
        self, host: str, kind: str, *, rate: float, burst: float, floor: float, want: float, least: float
    ) -> tuple[float, float]:
        """Tokens of one kind: how many came, and if none did, seconds until asking again is worth it."""
        args = [kind, rate, burst, floor, want, least]
        got, wait_ms = await self._run(self._take, self._host_key(host, "tokens"), args)
        return float(got), int(wait_ms) / 1000

    # ------------------------------------------------------------ ejections

    async def eject(self, ejection: Ejection) -> None:
        """Tell the fleet that a host is out."""
        args = [ejection.host, max(0, int(ejection.remaining_s * 1000)), ejection.count, ejection.cause.value]
        await self._run(self._eject, self._key("out"), args)

    async def well(self, host: str) -> None:
        """Tell the fleet that a host is well again."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._redis.hdel(self._key("out"), host)

    async def out(self) -> dict[str, Ejection]:
        """Every host that is out or half-open, by host."""
        flat = [_text(value) for value in await self._run(self._out, self._key("out"), [OUT_KEPT_MS])]
        found = {}
        for host, left_ms, count, cause in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True):
            found[host] = Ejection(
                host=host, remaining_s=int(left_ms) / 1000, count=int(count), cause=Cause(cause)
            )
        return found

    async def may_try(self, host: str, ttl_s: float) -> bool:
        """Whether this process may make the half-open probe of the host within `ttl_s` seconds."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                key = self._host_key(host, "try")
                return bool(await self._redis.set(key, self.process, nx=True, px=int(ttl_s * 1000)))

    # ------------------------------------------------------------ active probes

    async def is_prober(self, url: str, ttl_s: float) -> bool:
        """Whether this process is the one that probes the URL; renews its hold."""
        return bool(await self._run(self._hold, self._key("probing"), [url, self.process, int(ttl_s * 1000)]))

    async def set_probed(self, url: str, *, down: bool) -> None:
        """Tell the fleet how the probe of the URL stands."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if down:
                    await self._redis.hset(self._key("probed"), url, "down")
                else:
                    await self._redis.hdel(self._key("probed"), url)

    async def probed_down(self) -> frozenset[str]:
        """Probe URLs that fail at present."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                urls = await self._redis.hkeys(self._key("probed"))
        return frozenset(_text(url) for url in urls)

    # ------------------------------------------------------------ budgets of rules

    async def rule_budgets(self) -> dict[str, BucketBudgets]:
        """What rules give to hosts, by bucket; records that a newer version wrote are left out."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                found = await self._redis.hgetall(self._key("budgets"))
        records = {}
        for bucket, text in found.items():
            try:
                records[_text(bucket)] = decode(_text(text))
            except WireError as error:
                log.warning("rule_budgets_not_read", bucket=_text(bucket), error=str(error))
        return records

    async def set_rule_budgets(self, bucket: str, record: str | None) -> None:
        """Write a bucket's record; None removes it."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if record is None:
                    await self._redis.hdel(self._key("budgets"), bucket)
                else:
                    await self._redis.hset(self._key("budgets"), bucket, record)

    # ------------------------------------------------------------ reports

    async def report(self, body: bytes, ttl_s: float) -> None:
        """Leave this process's report, for `ttl_s` seconds."""
        await self._run(self._member, self._key("members"), [self.process, int(ttl_s * 1000)])
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._redis.set(self._key(f"report:{self.process}"), body, px=int(ttl_s * 1000))

    async def reports(self) -> list[bytes]:
        """The reports of all processes that are alive."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                members: list[Any] = await self._redis.zrange(self._key("members"), 0, -1)
                if not members:
                    return []
                bodies = await self._redis.mget([self._key(f"report:{_text(name)}") for name in members])
        return [
            body if isinstance(body, bytes) else str(body).encode() for body in bodies if body is not None
        ]

    async def leave(self) -> None:
        """Withdraw this process's report."""
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._redis.zrem(self._key("members"), self.process)
                await self._redis.delete(self._key(f"report:{self.process}"))

    # ------------------------------------------------------------ inside

    def _key(self, name: str) -> str:
        return f"{self._ns}:origins:{name}"

    def _host_key(self, host: str, name: str) -> str:
        return f"{self._ns}:origin:{host}:{name}"

    async def _run(self, script: Any, key: str, args: list[Any]) -> Any:
        with _translated():
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await script(keys=[key], args=args)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"origin state: {described(error)}") from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
