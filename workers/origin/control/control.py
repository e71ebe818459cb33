"""Which origin may be asked now: balance, health and budgets of one process, tied to those of the fleet.

Owns the one object that front, workers, scan and doctor ask before they go to an origin, and its
background tasks. The decisions are in the pure modules beside it (`balance`, `health`, `adaptive`,
`limits`), the keys in `fleet`. Knows no HTTP: the active probe (B10) is a callable that is given to it.
All methods belong to one event loop. While Redis is away everything goes on with what this process
knows, and comes back by itself. SEMANTICS.md section 7 and L15.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import orjson
import structlog

from workers.background import end
from workers.errors import BrokerUnavailable, OriginTimeout
from workers.origin.control.balance import Balancer, distinct, hinted, order
from workers.origin.control.budget import HostBudget, Slot, Surroundings
from workers.origin.control.fleet import Fleet
from workers.origin.control.health import Cause, Health
from workers.origin.control.latency import Latency
from workers.origin.control.limits import Schedule
from workers.origin.control.probes import ActiveProbes
from workers.origin.control.rule_budgets import merge
from workers.settings import BudgetSettings
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from workers.errors import OriginError
    from workers.origin.control.probes import Probe
    from workers.plan import FetchItem, FetchPlan, Lane, Origin
    from workers.settings import OriginSettings

log = structlog.get_logger()

#: Seconds between two looks at what the fleet published.
SYNC_S: Final = 1.0
#: Seconds between two reports of this process, and for which one counts.
REPORT_S: Final = 5.0
REPORT_KEPT_S: Final = 20.0
#: Seconds of one latency period; reports cover the present and the last.
LATENCY_PERIOD_S: Final = 60.0
#: Seconds for which the fleet's permission to make a half-open probe holds.
TRY_S: Final = 15.0
#: Seconds after which a host that nobody asked for is forgotten.
IDLE_S: Final = 600.0


def local_time() -> datetime:
    """The time of this place, for clock windows."""
    return datetime.now(UTC).astimezone()


class OriginControl:
    """Balance, health and budgets as this process sees them.

    Args:
        settings: budgets, share of hot, whether concurrency adapts.
        redis: client of the ledger's database, or None for a process on its own.
        namespace: prefix of the keys in Redis.
        name: what this process is called in reports; made unique here.
        clock: monotonic seconds.
        now: local time, for clock windows.
        lease_s: seconds after which the slots of a killed process are free again; at most 30.
        probe: asks a probe URL (B10); None for processes that do not probe. Also `set_probe`.
    """

    def __init__(
        self,
        settings: OriginSettings,
        *,
        redis: Redis | None = None,
        namespace: str = "ferryman",
        name: str = "process",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = local_time,
        lease_s: float = 15.0,
        probe: Probe | None = None,
    ) -> None:
        self.health = Health(clock)
        self.name = f"{name}:{uuid4().hex[:12]}"
        self._settings = settings
        self._budgets = {host.lower(): budget for host, budget in settings.budgets.items()}
        self._fleet = Fleet(redis, namespace=namespace, process=self.name) if redis is not None else None
        self._clock = clock
        self._around = Surroundings(
            fleet=self._fleet,
            hot_share=settings.hot_share,
            adaptive=settings.adaptive,
            lease_s=min(30.0, lease_s),
            clock=clock,
            local_time=now,
        )
        self._probe = probe
        self._balancer = Balancer()
        self._hosts: dict[str, HostBudget] = {}
        self._latency: dict[str, Latency] = {}
        self._rule_budgets: dict[str, tuple[BudgetSettings, ...]] = {}
        self._knows_rules = False
        self._cleared: set[str] = set()
        self._were_out: frozenset[str] = frozenset()
        self.probes = ActiveProbes(self._fleet, self.acquire, clock)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._shared = False
        self._reported_at = self._turned_at = clock()

    # ------------------------------------------------------------ choosing

    def pick(self, plan: FetchPlan) -> int:
        """Index into `plan.groups` for the next item, among primaries that are well (B1, B9)."""
        if not self.health.sick:
            return self._balancer.pick(plan)
        usable = self.health.usable
        return self._balancer.pick(plan, [usable(group.primary.host) for group in plan.groups])

    def candidates(self, plan: FetchPlan, item: FetchItem) -> list[Origin]:
        """Hosts to ask for this item, in order, at least one (B1 to B3, B8 to B10).

        The dispatcher's pick counts while its primary is well. Call it once a fetch: a host that is half-open
        is handed out to one caller at a time.
        """
        swap = False
        if plan.probe_url is not None:
            self.probes.name(plan.probe_url, trusted=plan.trusted_hosts)
            swap = plan.probe_url in self.probes.down
        pick = hinted(plan, item)
        if not self.health.sick:
            return order(plan, self._balancer.pick(plan) if pick is None else pick, standbys_first=swap)
        usable = self.health.usable
        well = [usable(group.primary.host) for group in plan.groups]
        if any(well):
            if pick is None or not well[pick]:
                pick = self._balancer.pick(plan, well)
            found = order(plan, pick, standbys_first=swap)
        else:
            pick = self._balancer.pick(plan) if pick is None else pick
            found = distinct(plan.groups[pick].standbys)[: plan.max_attempts]
        found = [origin for origin in found if usable(origin.host)]
        if not found:
            everyone = [origin for group in plan.groups for origin in (group.primary, *group.standbys)]
            found = [min(everyone, key=lambda origin: self.health.back_at(origin.host))]
        self.health.begin(found[0].host)
        return found

    # ------------------------------------------------------------ budgets

    async def acquire(self, host: str, lane: Lane, *, timeout_s: float) -> Slot:
        """A slot for one request to `host`; waits for the budget and for a pause that the origin asked for.

        Raises:
            BudgetExhausted: none within `timeout_s` seconds. It costs the item no attempt (A25).
        """
        budget = self._hosts.get(host) or self._open(host)
        slot = await budget.acquire(lane, timeout_s)
        if host in self.health.sick:
            self.health.begin(host)
        return slot

    def acquire_now(self, host: str, lane: Lane) -> Slot | None:
        """As `acquire` where there is nothing to wait for; else None, and nothing was taken."""
        budget = self._hosts.get(host) or self._open(host)
        slot = budget.acquire_now(lane)
        if slot is not None and host in self.health.sick:
            self.health.begin(host)
        return slot

    # ------------------------------------------------------------ learning

    def succeeded(self, host: str, first_byte_s: float, *, status: int = 200) -> None:
        """The host gave a proper answer (200, 206, 404 …), its first byte after so many seconds."""
        if self.health.succeeded(host):
            self._cleared.add(host)
            self._news.set()
            log.info("origin_well_again", origin=host)
        latency = self._latency.get(host)
        if latency is None:
            latency = self._latency[host] = Latency()
        latency.add(first_byte_s)
        metrics.origin_answered(host, status, first_byte_s=first_byte_s)
        budget = self._hosts.get(host)
        if budget is not None:
            budget.succeeded(first_byte_s)

    def failed(self, host: str, error: OriginError) -> None:
        """The host's answer was bad; judged by B7 and B8, so 4xx may be reported too."""
        metrics.origin_answered(host, error.reason if error.status is None else error.status)
        was_sick = host in self.health.sick
        ejection = self.health.failed(host, error)
        budget = self._hosts.get(host) or self._open(host)
        if error.status in {429, 503} or isinstance(error, OriginTimeout):
            budget.distressed()
        pause_s = self.health.pause_s(host)
        if pause_s:
            budget.pause(pause_s)
        if ejection is not None:
            self._cleared.discard(host)
            self._news.set()
            log.warning(
                "origin_ejected",
                origin=host,
                for_s=round(ejection.remaining_s, 1),
                count=ejection.count,
                cause=ejection.cause.value,
                error=error.reason,
            )
            metrics.ejected(ejection.host)
        elif was_sick and host not in self.health.sick:
            self._cleared.add(host)
            self._news.set()

    # ------------------------------------------------------------ life

    def set_probe(self, probe: Probe) -> None:
        """Give the callable that asks probe URLs; before `start`."""
        self._probe = probe

    def set_rule_budgets(self, budgets: Mapping[str, tuple[BudgetSettings, ...]]) -> None:
        """What rules give to hosts (F53), from a process that knows rules; others read it from Redis."""
        self._knows_rules = True
        self._take_rule_budgets(budgets)

    async def start(self) -> None:
        """Begin the background work; look at the fleet once before, so that known ejections count at once."""
        if self._tasks:
            return
        await self._sync()
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._sync_forever(), name="origin_control_sync"))
        if self._probe is not None:
            self._tasks.append(loop.create_task(self.probes.run(self._probe), name="origin_control_probe"))

    async def close(self) -> None:
        """End the background work and give leased slots back."""
        if self._tasks:
            await end(*self._tasks)
        self._tasks.clear()
        await asyncio.gather(*(budget.close() for budget in self._hosts.values()))
        if self._fleet is not None and self._shared:
            with suppress(BrokerUnavailable):  # the report expires by itself
                await self._fleet.leave()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    # ------------------------------------------------------------ background

    async def _sync_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._news.wait()
            try:
                await self._sync()
            except Exception:
                # Whatever it was, the next round must come: leases would end otherwise.
                log.exception("origin_control_sync_failed")
                await asyncio.sleep(SYNC_S)

    async def _sync(self) -> None:
        self._news.clear()
        now = self._clock()
        for host in [host for host, budget in self._hosts.items() if self._idle(budget, now)]:
            await self._hosts.pop(host).close()
            self._latency.pop(host, None)
        if self._fleet is not None:
            try:
                await self._share(self._fleet, now)
            except BrokerUnavailable as error:
                if self._shared or not self.health.local_permits:
                    log.warning("origin_state_on_its_own", error=str(error))
                self._shared = False
                self.health.local_permits = True
        out = frozenset(self.health.sick)
        metrics.origins_out(out, self._were_out - out)
        self._were_out = out
        for budget in list(self._hosts.values()):
            await budget.renew()
        if now - self._turned_at >= LATENCY_PERIOD_S:
            self._turned_at = now
            for latency in self._latency.values():
                latency.turn()

    async def _share(self, fleet: Fleet, now: float) -> None:
        health = self.health
        if not self._shared:
            health.forget_shared()
        for host in list(self._cleared):
            await fleet.well(host)
            self._cleared.discard(host)
        for ejection in health.unshared():
            await fleet.eject(ejection)
            health.published(ejection.host)
        for host in health.adopt(await fleet.out()):
            log.info("origin_ejected_by_fleet", origin=host)
        for ejection in health.ejections():
            if (
                ejection.cause is Cause.THROTTLED
                and ejection.remaining_s > 0
                and ejection.host in self._hosts
            ):
                self._hosts[ejection.host].pause(ejection.remaining_s)
        for host in list(health.wanted_permits()):
            if await fleet.may_try(host, TRY_S):
                health.grant(host, TRY_S)
        await self.probes.sync(fleet)
        if not self._knows_rules:
            self._take_rule_budgets(merge((await fleet.rule_budgets()).values()))
        if now - self._reported_at >= REPORT_S or not self._shared:
            self._reported_at = now
            await fleet.report(orjson.dumps(self.report()), REPORT_KEPT_S)
        self._shared = True
        health.local_permits = False

    def report(self) -> dict[str, object]:
        """What this process knows of each host; `ferryman origins` merges it over the processes."""
        out = {ejection.host: ejection for ejection in self.health.ejections()}
        hosts: dict[str, object] = {}
        for host in {*self._hosts, *self._latency, *out}:
            budget = self._hosts.get(host)
            latency = self._latency.get(host)
            ejection = out.get(host)
            hosts[host] = {
                "in_flight": budget.hot + budget.cold if budget else 0,
                "leased": budget.share.total if budget else 0,
                "adaptive_limit": budget.adaptive.limit if budget and budget.adaptive else None,
                "concurrency": budget.limits.concurrency if budget else None,
                "requests_per_s": budget.limits.requests_per_s if budget else None,
                "bytes_per_s": budget.limits.bytes_per_s if budget else None,
                "closed": budget.limits.closed if budget else False,
                "pause_s": round(budget.pause_s(), 1) if budget else 0.0,
                "state": self.health.state(host).value,
                "out_s": round(ejection.remaining_s, 1) if ejection else None,
                "ejections": ejection.count if ejection else 0,
                "cause": ejection.cause.value if ejection else None,
                "first_byte": latency.counts() if latency else [],
            }
        return {"process": self.name, "hosts": hosts, "probed_down": sorted(self.probes.down)}

    # ------------------------------------------------------------ inside

    def schedule(self, host: str) -> Schedule:
        """The budgets that name the host, in the configuration and in rules; else the default one."""
        named = [*self._rule_budgets.get(host, ())]
        if host in self._budgets:
            named.append(self._budgets[host])
        return Schedule(*named) if named else Schedule(self._budgets.get("default", BudgetSettings()))

    def _take_rule_budgets(self, budgets: Mapping[str, tuple[BudgetSettings, ...]]) -> None:
        before, self._rule_budgets = self._rule_budgets, dict(budgets)
        for host, budget in self._hosts.items():
            if before.get(host) != self._rule_budgets.get(host):
                budget.reschedule(self.schedule(host))
                log.info("origin_budget_changed", origin=host)

    def _idle(self, budget: HostBudget, now: float) -> bool:
        if budget.wanted():
            budget.used_at = now
        return now - budget.used_at > IDLE_S

    def _open(self, host: str) -> HostBudget:
        budget = self._hosts[host] = HostBudget(host, self.schedule(host), self._around)
        pause_s = self.health.pause_s(host)
        if pause_s:
            budget.pause(pause_s)
        return budget
