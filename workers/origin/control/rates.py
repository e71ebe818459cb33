"""Requests and bytes a second, over the fleet: tokens fetched in chunks, so that most requests cost a
subtraction.

Owns the local stock of tokens of one host and kind. A chunk is a tenth of a second's worth shared among
the processes, so Redis is asked about ten times a second and host, whatever the load. Without Redis
each process refills from a bucket of its own with its last share of the rate; one call that is lost does not
mean that, as the others go by the whole meanwhile. Who is not heard may be doing just that: until his lease
ends the others leave him his share. Hot may spend what cold has fetched; cold leaves a part of the fleet's
bucket untouched, so hot always finds tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from workers.errors import BrokerUnavailable
from workers.plan import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.origin.control.fleet import Fleet

#: Seconds' worth that a bucket may hold: the largest burst.
BURST_S: Final = 0.25
#: Seconds' worth that one chunk brings, divided by the processes.
CHUNK_S: Final = 0.1
#: Unspent tokens of a chunk are dropped after this: saved-up bursts of many processes would add up.
STALE_S: Final = 1.0
#: Longest and shortest wait before the fleet is asked again.
WAIT_MAX_S: Final = 1.0
WAIT_MIN_S: Final = 0.005


class Bucket:
    """A token bucket, pure: the time is a parameter, in seconds. The same sums as the script in `fleet`."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(
        self, now: float, *, rate: float, burst: float, floor: float, want: float, least: float
    ) -> tuple[float, float]:
        """Tokens that came (at least `least`, or 0), and seconds until asking again is worth it."""
        tokens = burst if self._tokens is None else self._tokens + max(0.0, now - self._at) * rate
        tokens = min(burst, tokens)
        self._at = now
        need = min(floor + least, burst)
        if tokens < need:
            self._tokens = tokens
            return 0.0, (need - tokens) / rate
        got = max(least, min(want, float(int(tokens - floor))))
        self._tokens = tokens - got
        return got, 0.0

    def took(self, now: float, amount: float, *, rate: float, burst: float) -> None:
        """So many were taken elsewhere: they are not to be had here as well."""
        tokens = burst if self._tokens is None else self._tokens + max(0.0, now - self._at) * rate
        self._tokens = max(0.0, min(burst, tokens) - amount)
        self._at = now


class Rate:
    """One process's hold on one rate of one host."""

    def __init__(
        self,
        *,
        host: str,
        kind: str,
        rate: float,
        hot_share: float,
        fleet: Fleet | None,
        clock: Callable[[], float],
    ) -> None:
        self.rate = rate
        #: Processes that share the rate, as last heard.
        self.members = 1
        #: Of them those that may go by their own share.
        self.silent = 0
        self._shared = fleet is not None
        self._doubted = False
        self._host = host
        self._kind = kind
        self._hot_share = hot_share
        self._fleet = fleet
        self._clock = clock
        self._stock = {Lane.HOT: 0.0, Lane.COLD: 0.0}
        self._stocked_at = {Lane.HOT: 0.0, Lane.COLD: 0.0}
        self._line = {Lane.HOT: asyncio.Lock(), Lane.COLD: asyncio.Lock()}
        self._local = Bucket()

    def renewed(self, members: int, *, silent: int, away: bool) -> None:
        """What the last renewal of the process's share says: how many share, and whether Redis answered."""
        self.members, self.silent = members, silent
        if away:
            self._lost()
        else:
            self._shared, self._doubted = True, False

    def _lost(self) -> None:
        """A call was lost; at the second in a row Redis is away."""
        self._shared = self._shared and not self._doubted
        self._doubted = True

    def try_take(self, lane: Lane, amount: float) -> bool:
        """Spend `amount` from the local stock when there is any; a debt is paid from the next chunk."""
        stock = self._stock
        if stock[lane] > 0 and not self._line[lane].locked():
            stock[lane] -= amount
            return True
        if lane is Lane.HOT and stock[Lane.COLD] >= amount:
            stock[Lane.COLD] -= amount
            return True
        return False

    async def take(self, lane: Lane, amount: float) -> None:
        """Spend `amount`, waiting as long as it takes; first come, first served within a lane."""
        async with self._line[lane]:
            if self._clock() - self._stocked_at[lane] > STALE_S:
                self._stock[lane] = min(self._stock[lane], 0.0)
            while self._stock[lane] <= 0 or (self._kind == "requests" and self._stock[lane] < amount):
                got, wait_s = await self._fetch(lane, amount)
                if got > 0:
                    self._stock[lane] += got
                    self._stocked_at[lane] = self._clock()
                else:
                    await asyncio.sleep(min(WAIT_MAX_S, max(WAIT_MIN_S, wait_s)))
            self._stock[lane] -= amount

    async def _fetch(self, lane: Lane, amount: float) -> tuple[float, float]:
        rate = self.rate
        least = max(1.0, amount - self._stock[lane])
        own = rate / self.members
        own_burst = max(1.0, own * BURST_S)
        if self._fleet is not None and self._shared:
            rate *= 1 - self.silent / self.members
            burst = max(1.0, rate * BURST_S)
            want = max(least, own * CHUNK_S)
            try:
                got, wait_s = await self._fleet.take(
                    self._host,
                    self._kind,
                    rate=rate,
                    burst=burst,
                    floor=self._floor(lane, burst),
                    want=want,
                    least=least,
                )
            except BrokerUnavailable:
                self._lost()
                return 0.0, WAIT_MIN_S
            self._doubted = False
            self._local.took(self._clock(), got, rate=own, burst=own_burst)
            return got, wait_s
        want, floor = max(least, own * CHUNK_S), self._floor(lane, own_burst)
        return self._local.take(self._clock(), rate=own, burst=own_burst, floor=floor, want=want, least=least)

    def _floor(self, lane: Lane, burst: float) -> float:
        return burst * self._hot_share if lane is Lane.COLD else 0.0
