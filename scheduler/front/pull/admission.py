"""How many distinct missing keys clients may cause: a bound for floods of random keys.

Owns two rates, one a client address and one for all together. A hit, a key that is being pulled already and
a key known to be absent cost nothing here. Pure; the clock is a parameter.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Client addresses that are told apart; those silent for longest are forgotten.
MAX_CLIENTS = 20_000
#: Seconds' worth of its rate that a client may use at once.
BURST_S = 2.0


class Bucket:
    """A token bucket; full at first."""

    __slots__ = ("at", "tokens")

    def __init__(self, now: float, tokens: float) -> None:
        self.at = now
        self.tokens = tokens

    def take(self, now: float, rate: float) -> float:
        """Take one token; the seconds to wait for it, 0 when it was there."""
        self.tokens = min(max(1.0, rate * BURST_S), self.tokens + (now - self.at) * rate)
        self.at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / rate
        self.tokens -= 1.0
        return 0.0


class Admission:
    """The gate before a new pull. Rates are keys a second; 0 means unbounded."""

    def __init__(self, *, per_client: float, overall: float, clock: Callable[[], float]) -> None:
        self._per_client = per_client
        self._overall = overall
        self._clock = clock
        self._clients: OrderedDict[str, Bucket] = OrderedDict()
        self._all = Bucket(clock(), overall * BURST_S)

    def ask(self, client: str) -> int | None:
        """None when a client may look for a new missing key, else the seconds for `Retry-After`."""
        now = self._clock()
        if self._per_client > 0:
            bucket = self._clients.get(client)
            if bucket is None:
                bucket = self._clients[client] = Bucket(now, max(1.0, self._per_client * BURST_S))
                if len(self._clients) > MAX_CLIENTS:
                    self._clients.popitem(last=False)
            else:
                self._clients.move_to_end(client)
            wait = bucket.take(now, self._per_client)
            if wait > 0:
                return math.ceil(wait)
        if self._overall > 0:
            wait = self._all.take(now, self._overall)
            if wait > 0:
                return math.ceil(wait)
        return None
