"""Active health: the probe URLs of rules, asked by one process of the fleet (SEMANTICS.md B10).

Owns which URLs are in use, their streaks of good and bad answers, and which of them are down. Knows no
HTTP: how a URL is asked is a callable that is given to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from workers.errors import BrokerUnavailable, BudgetExhausted
from workers.origin.wire.redirects import split_url
from workers.plan import Lane

if TYPE_CHECKING:
    from workers.origin.control.budget import Slot
    from workers.origin.control.fleet import Fleet

log = structlog.get_logger()


class Probe(Protocol):
    """Asks a probe URL."""

    def __call__(self, url: str, *, trusted: bool) -> Awaitable[bool]:
        """True for 2xx or 3xx; `trusted`: the host may be private (B11)."""


#: Gives a slot of a host's budget, as `OriginControl.acquire` does.
Acquire = Callable[..., Awaitable["Slot"]]

#: Period and time allowed, in seconds.
PROBE_EVERY_S: Final = 10.0
PROBE_TIMEOUT_S: Final = 2.0
#: Bad answers in a row to go down, good ones to come back.
PROBE_BAD: Final = 3
PROBE_GOOD: Final = 2
#: Seconds after which a URL that no plan names is forgotten.
UNNAMED_S: Final = 600.0


class ActiveProbes:
    """The probe URLs that this process has met; `down` are those whose primary stands behind its standbys."""

    def __init__(self, fleet: Fleet | None, acquire: Acquire, clock: Callable[[], float]) -> None:
        self.down: frozenset[str] = frozenset()
        self._fleet = fleet
        self._acquire = acquire
        self._clock = clock
        #: URL -> when a plan last named it, and whether its host may be private.
        self._urls: dict[str, tuple[float, bool]] = {}
        self._streaks: dict[str, int] = {}

    def name(self, url: str, *, trusted: bool) -> None:
        """A plan in use has this probe URL."""
        self._urls[url] = (self._clock(), trusted)

    async def sync(self, fleet: Fleet) -> None:
        """Take over what the fleet's prober found.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        if self._urls:
            self.down = await fleet.probed_down()

    async def run(self, probe: Probe) -> None:
        """Probe for ever, every 10 s, however long the answers take."""
        due = self._clock() + PROBE_EVERY_S
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            due = self._clock() + PROBE_EVERY_S
            await self.once(probe)

    async def once(self, probe: Probe) -> None:
        """Ask every URL in use that is this process's to probe, all at once: a dead one delays no other."""
        horizon = self._clock() - UNNAMED_S
        for url in [url for url, (named_at, _) in self._urls.items() if named_at < horizon]:
            del self._urls[url]
            self._streaks.pop(url, None)
        await asyncio.gather(*(self._one(probe, url, trusted) for url, (_, trusted) in self._urls.items()))

    async def _one(self, probe: Probe, url: str, trusted: bool) -> None:
        if await self._is_ours(url):
            good = await self._ask(probe, url, trusted)
            if good is not None:
                await self._count(url, good=good)

    async def _is_ours(self, url: str) -> bool:
        if self._fleet is None:
            return True
        try:
            return await self._fleet.is_prober(url, PROBE_EVERY_S * 2.5)
        except BrokerUnavailable:
            return True

    async def _ask(self, probe: Probe, url: str, trusted: bool) -> bool | None:
        """Whether the answer was good; None when the origin's budget left no room for the question."""
        try:
            host = split_url(url).authority
        except ValueError:
            return False
        try:
            slot: Slot = await self._acquire(host, Lane.HOT, timeout_s=PROBE_TIMEOUT_S)
        except BudgetExhausted:
            return None
        async with slot:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    return await probe(url, trusted=trusted)
            except Exception as error:  # noqa: BLE001 - whatever it raises, it was no good answer
                log.info("origin_probe_failed", origin=host, error=type(error).__name__)
                return False

    async def _count(self, url: str, *, good: bool) -> None:
        streak = self._streaks.get(url, 0)
        streak = max(streak, 0) + 1 if good else min(streak, 0) - 1
        self._streaks[url] = streak
        was_down = url in self.down
        if (was_down and streak < PROBE_GOOD) or (not was_down and streak > -PROBE_BAD):
            return
        self.down = self.down - {url} if was_down else self.down | {url}
        log.warning("origin_probe_turned", state="up" if was_down else "down")
        if self._fleet is not None:
            try:
                await self._fleet.set_probed(url, down=not was_down)
            except BrokerUnavailable as error:
                log.info("origin_probe_not_published", error=str(error))
