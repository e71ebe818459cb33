"""A run of a scan as its coordinator holds it: its record, orders about it, its lease, its limits.

Owns the rule that every record is written only while the lease is held, so that a coordinator that was
overtaken changes nothing any more. What a run does is `run`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from scheduler.scan.limits import heed_absent, heed_failures
from scheduler.scan.record.account import account
from scheduler.scan.record.state import LEASE_MS
from workers.background import end, to_the_end
from workers.errors import BrokerUnavailable, FerrymanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.runtime import Services
    from scheduler.scan.record.state import Phase, ScanState, ScanStates

#: Seconds between looks at orders, the lease and the queue.
TICK_S = 0.5
#: An account that is long in the making is asked for so many times its own length apart.
ACCOUNT_SHARE = 10
#: Seconds between looks at the share of absent keys, at least.
_ABSENT_S = 5.0

log = structlog.get_logger(__name__)


class ScanCancelled(FerrymanError):
    """An operator cancelled the scan."""


class LeaseLost(FerrymanError):
    """Another coordinator has taken over; this one must not write any more."""


class HeldRun(ABC):
    """One run, and the lease on it."""

    def __init__(
        self, services: Services, states: ScanStates, state: ScanState, *, clock: Callable[[], float]
    ) -> None:
        self._services = services
        self._states = states
        self.state = state
        # Says where it runs, for whoever looks who holds the lease.
        self._token = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._clock = clock
        self._accrued_at = clock()
        self._accounted_at = float("-inf")
        self._account_s = 0.0

    async def run(self) -> bool:
        """Run until done, failed or stopped; False when somebody else holds the lease."""
        name = self.state.name
        if not await self._states.acquire(name, self._token):
            return False
        keeper = asyncio.create_task(self._keep_lease())
        try:
            await self._to_its_end()
        except (RedisError, BrokerUnavailable) as error:
            # The record cannot be written either: whoever is next goes on from the checkpoint.
            log.warning("scan_interrupted", scan=name, error=str(error))
        except LeaseLost as error:
            log.warning("scan_lease_lost", scan=name, error=str(error))
        finally:
            await to_the_end(self._release(keeper))
        return True

    async def _release(self, keeper: asyncio.Task[None]) -> None:
        await end(keeper)
        with contextlib.suppress(RedisError, OSError):  # the lease runs out by itself
            await self._states.release(self.state.name, self._token)

    @abstractmethod
    async def _to_its_end(self) -> None:
        """What the run does under its lease; it records how it ended.

        Raises:
            RedisError, BrokerUnavailable, LeaseLost: nothing can be recorded.
        """

    async def _finish(self, phase: Phase, *, error: str = "") -> None:
        await self._put(replace(self.state, phase=phase, error=error, finished_at=time.time(), waiting=""))

    def _stamped(self, state: ScanState) -> ScanState:
        now = self._clock()
        worked = 0.0 if state.paused or state.waiting else now - self._accrued_at
        self._accrued_at = now
        return replace(state, updated_at=time.time(), active_s=state.active_s + worked)

    async def _put(self, state: ScanState, *, names_void: bool = False) -> None:
        self.state = self._stamped(state)
        if not await self._states.put_held(self.state, self._token, names_void=names_void):
            raise LeaseLost(self.state.name)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 4000)
            try:
                await self._states.renew(self.state.name, self._token)
            except (RedisError, OSError) as error:
                log.warning("scan_lease_not_renewed", scan=self.state.name, error=str(error))

    async def _obey(self) -> None:
        """Carry out what an operator asked for; a pause lasts until `resume` or `cancel`."""
        name = self.state.name
        while True:
            order = await self._states.ordered(name)
            if order == "cancel":
                raise ScanCancelled(name)
            if order is not None:
                paused = order == "pause"
                await self._services.ledger.outcomes.stop_scan(self.state.run, "pause" if paused else None)
                # The record first, then the order is gone: a coordinator that dies here leaves no doubt.
                await self._put(self.state)
                await self._put(replace(self.state, paused=paused))
                await self._states.obeyed(name, order)
            if not await self._states.renew(name, self._token):
                raise LeaseLost(name)
            if not self.state.paused:
                break
            await asyncio.sleep(TICK_S)
        await self._limits()

    async def _limits(self) -> None:
        """Look at the account now and then, when it bounds the run.

        Raises:
            StoppedByLimit: as `_account`.
        """
        options = self.state.options
        if options.stop_after_failures is not None:
            apart_s = max(TICK_S, self._account_s * ACCOUNT_SHARE)
        elif options.max_absent < 1 and self._has_sent:
            apart_s = max(_ABSENT_S, self._account_s * ACCOUNT_SHARE * 5)
        else:
            return
        if self._clock() - self._accounted_at > apart_s:
            await self._account()

    @property
    def _has_sent(self) -> bool:
        point = self.state.checkpoint
        return self.state.shards > 0 or (point is not None and point.batch > 0)

    async def _account(self, *, ended: bool = False) -> int:
        """Pending keys; raises when a limit is reached. `ended`: no more will be compared.

        Raises:
            TooManyFailures: as many as the operator allowed.
            NearlyAllAbsent: more than the operator allowed.
        """
        began = self._clock()
        total = (await account(self.state, self._services.ledger.outcomes))[""]
        self._accounted_at = self._clock()
        self._account_s = self._accounted_at - began
        heed_failures(self.state, total)
        heed_absent(self.state, total, ended=ended and total.pending == 0)
        return total.pending
