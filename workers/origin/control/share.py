"""This process's share of the fleet's slots for one host, and its renewal.

Owns what is leased, what is asked for and what is given back. Two rules keep the sum of all processes
within the budget: while a renewal is on its way nothing is begun beyond what the books will hold, and
after Redis came back nobody grows before all have told what they use. Knows neither who waits nor
rates.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from workers.errors import BrokerUnavailable
from workers.origin.control.limits import cold_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.control.fleet import Fleet, Lease
    from workers.origin.control.limits import Limits

log = structlog.get_logger(__name__)

#: Seconds for which a process that asked for a hot object keeps a slot.
STANDING_S: Final = 60.0
#: Seconds after Redis came back for all processes to tell what they hold.
SETTLE_S: Final = 3.0
#: Slots that a process starts with when Redis was never reached and others may run: this part of all.
UNKNOWN_FLEET: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a process needs now, in slots: in use, waited for, and most in use since the last renewal."""

    hot: int
    cold: int
    hot_waiting: int
    cold_waiting: int
    hot_peak: int
    cold_peak: int


class Share:
    """The leased slots of one host; `hot` ones may be used for hot only, `cold` ones for either."""

    def __init__(
        self, host: str, fleet: Fleet | None, *, hot_share: float, lease_s: float, clock: Callable[[], float]
    ) -> None:
        self.hot = 0
        self.cold = 0
        #: Processes that know the host, those among them that are not heard, and whether others lack slots.
        self.members = 1
        self.silent = 0
        self.others_wait = False
        #: Whether Redis answered last.
        self.away = False
        self._host = host
        self._fleet = fleet
        self._hot_share = hot_share
        self._lease_s = lease_s
        self._clock = clock
        self._reached = False
        self._hot_until = 0.0
        self._grow_after = 0.0
        self._line = asyncio.Lock()

    @property
    def total(self) -> int:
        """Leased slots."""
        return self.hot + self.cold

    def take_all(self, slots: int) -> None:
        """Without a fleet, all slots are this process's."""
        self.cold = cold_part(slots, self._hot_share)
        self.hot = slots - self.cold

    async def renew(self, limits: Limits, demand: Callable[[], Demand], before: Callable[[], None]) -> None:
        """Tell the fleet what is needed and take what it gives; one renewal at a time.

        `before` is called once `hot` and `cold` are down to what the books will hold meanwhile.
        """
        if self._fleet is None:
            return
        async with self._line:
            needed = demand()
            wanted = self._wanted(limits, needed)
            using = self._keep(needed, wanted)
            self.hot, self.cold = using
            before()
            slots = limits.concurrency
            try:
                lease = await self._fleet.lease(
                    self._host,
                    limits,
                    cold_slots=cold_part(slots, self._hot_share) if slots is not None else 0,
                    using=using,
                    wanted=wanted,
                    ttl_s=self._lease_s,
                )
            except BrokerUnavailable as error:
                self._without_redis(slots, error)
            else:
                self._take(lease, using)

    async def give_back(self) -> None:
        """This process asks the host no more."""
        if self._fleet is not None and self._reached and not self.away:
            try:
                await self._fleet.give_back(self._host)
            except BrokerUnavailable as error:
                log.info("origin_slots_not_given_back", origin=self._host, error=str(error))

    def _wanted(self, limits: Limits, needed: Demand) -> tuple[int, int]:
        """Slots to ask for, hot and cold.

        Where there are plenty, a process that asked for hot objects of late keeps one slot: what it may use
        while Redis is away is then not nothing.
        """
        slots, now = limits.concurrency, self._clock()
        if slots is None or limits.closed:
            return needed.hot, needed.cold
        if needed.hot_peak:
            self._hot_until = now + STANDING_S
        if self.away or now < self._grow_after:
            return max(needed.hot, self.hot), max(needed.cold, self.cold)
        hot, cold = needed.hot + needed.hot_waiting, needed.cold + needed.cold_waiting
        if not self.others_wait:
            hot, cold = max(hot, needed.hot_peak), max(cold, needed.cold_peak)
            if hot == 0 and self.members * 2 <= slots and now < self._hot_until:
                hot = 1
        return hot, cold

    def _keep(self, needed: Demand, wanted: tuple[int, int]) -> tuple[int, int]:
        """Of the leased slots those not given back now; only those in use when others lack some."""
        if self.others_wait:
            return needed.hot, needed.cold
        # Cold may still use what was given for hot since: that is not kept twice.
        hot = max(needed.hot, min(self.hot, wanted[0], self.total - needed.cold))
        return hot, max(needed.cold, min(self.cold, wanted[1], self.total - hot))

    def _take(self, lease: Lease, using: tuple[int, int]) -> None:
        if self.away:
            log.info("origin_budget_shared_again", origin=self._host)
        hot, cold = lease.hot, lease.cold
        if self.away or (self._reached and not lease.known):
            # Redis may have lost what the others hold.
            self._grow_after = self._clock() + SETTLE_S
            hot, cold = min(hot, using[0]), min(cold, using[1])
        self._reached, self.away = True, False
        self.hot, self.cold = hot, cold
        self.members, self.silent = lease.members, lease.silent
        self.others_wait = lease.others_wait

    def _without_redis(self, slots: int | None, error: BrokerUnavailable) -> None:
        """Keep the last share; one that was never given is a small part of all, once two calls were lost."""
        again = self.away
        if not again:
            log.warning("origin_budget_on_its_own", origin=self._host, error=str(error))
        self.away, self.others_wait = True, False
        if not self._reached:
            self.members = UNKNOWN_FLEET
            if slots is not None and again:
                self.take_all(max(1, slots // UNKNOWN_FLEET))
