"""A taken key to its end: at the origin, later, or a listed failure.

Owns which failure waits and which is listed: an origin that is away, or asks to wait, costs no try, for an
hour as for a minute; one that refuses this very write costs one of `limits.max_attempts`. And the lease: what
was written without it is looked at once more.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from redis.exceptions import RedisError

from workers.back.bring import Brought, bring
from workers.back.writer import is_refusal
from workers.back_routes import decode_routes, route_for
from workers.background import end
from workers.errors import (
    BudgetExhausted,
    CredentialMissing,
    OriginError,
    StoreThrottled,
    StoreUnavailable,
    TransferError,
    described,
)
from workers.ledger.back import CHUNK, LEASE_MS, WRITTEN, Finished
from workers.ledger.claims import DELETED
from workers.ledger.failures import BACK, Failure

if TYPE_CHECKING:
    from workers.back.writer import OriginWriter
    from workers.back_routes import BackRoute
    from workers.ledger.back import Taken
    from workers.ledger.ledger import Ledger
    from workers.store.client import ObjectStore

#: Seconds between tries at an origin that is away or asks to wait: at first, and at most.
_WAIT_S: Final = 2.0
_MAX_WAIT_S: Final = 30.0
#: Seconds before the second try of a write that was refused; doubled each time.
_REFUSED_S: Final = 1.0
#: Longest time in seconds that somebody who wants a key at once waits for another process that has it, and
#: how long between looks.
_PATIENCE_S: Final = 60.0
_FIRST_LOOK_S: Final = 0.01
_LAST_LOOK_S: Final = 0.25
#: Seconds after it was asked for at which a lease is no longer sure: the rest is for what is then under way.
_SURE_S: Final = LEASE_MS / 1000 - 15.0
#: Seconds for which routes are believed; where they lack a key they are read anew.
_ROUTES_S: Final = 1.0

log = structlog.get_logger(__name__)


class BackObserver(Protocol):
    """Who counts for metrics."""

    def brought(self, rule: str, kind: str, size: int, duration_s: float) -> None:
        """One key is equal at its origin now."""

    def failed(self, reason: str, *, listed: bool) -> None:
        """One try failed; `listed` when no further one follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """It is not equal yet: why, and whether it is a listed failure now."""

    error: TransferError
    listed: bool


class LeaseOver(TransferError):
    """Whoever had the key stood still for so long that somebody else may have it; nothing was changed."""


class _Lease:
    """Until when a key that was just taken is surely ours, by this process's clock."""

    def __init__(self) -> None:
        self.until = time.monotonic() + _SURE_S

    def check(self) -> None:
        """Raise where somebody else may have the key.

        Raises:
            LeaseOver: he may.
        """
        if time.monotonic() > self.until:
            raise LeaseOver("it took longer than the lease to read the object; it is begun anew")


class Settler:
    """Brings taken keys, and writes down what came of it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: ObjectStore,
        writer: OriginWriter,
        owner: str,
        max_attempts: int,
        observer: BackObserver,
    ) -> None:
        self.owner = owner
        self._ledger = ledger
        self._store = store
        self._writer = writer
        self._max_attempts = max_attempts
        self._observer = observer
        self._rng = random.Random()
        self._routes: dict[str, tuple[float, tuple[BackRoute, ...]]] = {}
        self._ending: list[tuple[Taken, asyncio.Future[Finished]]] = []
        self._telling: asyncio.Task[None] | None = None

    async def settle(self, taken: Taken) -> Brought | Later:
        """Bring one key and record it; raises what Redis raises, with the key still under its lease."""
        bucket, key = taken.bucket, taken.key
        route = await self._route(bucket, key)
        if route is None:
            await self._ledger.back.forget(bucket, [key])
            if taken.was_listed:
                await self._ledger.failures.remove_back(bucket, [key])
            await self._ledger.outcomes.count(bucket, {("", "skipped"): 1})
            log.info("back_not_wanted", bucket=bucket, key=key)
            return Brought(kind="unchanged")
        out_s = self._writer.wire.is_out(route)
        if out_s:
            error = BudgetExhausted(f"{route.origin.host} is out for {out_s:.0f} s")
            delay_s = min(out_s, _MAX_WAIT_S) * self._rng.uniform(1.0, 1.5)
            await self._ledger.back.put_off(taken, owner=self.owner, delay_s=delay_s, tries=taken.tries)
            return Later(error=error, listed=False)
        began = time.monotonic()
        try:
            done = await self._bring(taken, route)
        except LeaseOver as over:
            return Later(error=over, listed=False)  # whoever has the key now brings it
        except TransferError as error:
            return await self._failed(taken, route, error)
        except RedisError:
            raise  # says nothing about the key: its lease ends, and it is looked at again
        except Exception as error:  # a fault of ours on one key must neither stop the lane nor vanish
            log.exception("back_failed_unexpectedly", bucket=bucket, key=key)
            fault = TransferError(described(error))
            return await self._failed(taken, route, fault)
        state = await self._finish(taken)
        if state is Finished.LOST and done.kind != "unchanged":
            # Whoever had the key meanwhile may have been overtaken by us.
            await self._ledger.back.note(bucket, [key], WRITTEN)
        if taken.was_listed:
            await self._ledger.failures.remove_back(bucket, [key])
        self._observer.brought(route.rule, done.kind, done.bytes, time.monotonic() - began)
        return done

    async def settle_now(self, bucket: str, key: str) -> TransferError | None:
        """Bring one key that somebody waits for; why the origin lacks its last write, None where it has it.

        Where another process has the key already, it is waited for. Raises what Redis raises.
        """
        until = time.monotonic() + _PATIENCE_S
        pause_s = _FIRST_LOOK_S
        while True:
            taken = await self._ledger.back.take_one(bucket, key, owner=self.owner)
            if taken is None:
                return None
            if taken is not False:
                done = await self.settle(taken)
                return done.error if isinstance(done, Later) else None
            if time.monotonic() >= until:
                return BudgetExhausted(f"{bucket}/{key}: another process is at it for {_PATIENCE_S:.0f} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_LOOK_S)

    async def _bring(self, taken: Taken, route: BackRoute) -> Brought:
        async def deleted() -> bool:
            mark = await self._ledger.claims.tombstone(taken.bucket, taken.key)
            return mark is not None and mark.startswith(DELETED)

        lease = _Lease()
        keepers: list[asyncio.Task[None]] = []

        def keep() -> None:
            keepers.append(asyncio.create_task(self._keep(taken, lease)))

        # Most keys end long before; a timer that does not fire costs less than a task.
        timer = asyncio.get_running_loop().call_later(LEASE_MS / 3000, keep)
        try:
            return await bring(
                taken, route, store=self._store, writer=self._writer, deleted=deleted, may_change=lease.check
            )
        finally:
            timer.cancel()
            await end(*keepers)

    async def _keep(self, taken: Taken, lease: _Lease) -> None:
        """Renew the lease while a large object is brought."""
        while True:
            asked_at = time.monotonic()
            try:
                ours = await self._ledger.back.renew(taken.bucket, taken.key, owner=self.owner)
                lease.until = asked_at + _SURE_S if ours else 0.0
            except (RedisError, OSError) as error:
                log.warning("lease_renewal_failed", bucket=taken.bucket, keys=1, error=str(error))
            await asyncio.sleep(LEASE_MS / 3000)

    async def _finish(self, taken: Taken) -> Finished:
        """Give the key up as equal, together with others that end at the same time."""
        answer: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._ending.append((taken, answer))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        return await answer

    async def _tell(self) -> None:
        while self._ending:
            ending, self._ending = self._ending[:CHUNK], self._ending[CHUNK:]
            for bucket in {taken.bucket for taken, _ in ending}:
                some = [pair for pair in ending if pair[0].bucket == bucket]
                try:
                    states = await self._ledger.back.finish(
                        bucket, [taken for taken, _ in some], owner=self.owner
                    )
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is theirs who wait
                    for _, answer in some:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), state in zip(some, states, strict=True):
                    if not answer.done():
                        answer.set_result(state)

    async def _failed(self, taken: Taken, route: BackRoute, error: TransferError) -> Later:
        back = self._ledger.back
        refused = not _waits(error)
        tries = taken.tries + 1
        listed = refused and (tries >= self._max_attempts or not error.retryable)
        self._observer.failed(error.reason, listed=listed)
        if listed:
            failure = Failure(
                bucket=taken.bucket,
                key=taken.key,
                reason=error.reason,
                message=str(error),
                rule=route.rule,
                tries=tries,
                lane=BACK,
            )
            if not await self._ledger.failures.add([failure]):
                # Waived for this very reason: nobody wants it there.
                await back.forget(taken.bucket, [taken.key])
                return Later(error=error, listed=True)
            log.warning(
                "back_failed", bucket=taken.bucket, key=taken.key, reason=error.reason, error=str(error)
            )
            await back.put_off(taken, owner=self.owner, delay_s=None, tries=tries)
            return Later(error=error, listed=True)
        base = _REFUSED_S if refused else _WAIT_S
        delay_s = min(base * 2 ** min(taken.tries, 10), _MAX_WAIT_S) * self._rng.uniform(0.5, 1.0)
        if error.retry_after_s is not None:
            delay_s = max(delay_s, min(error.retry_after_s, 300.0))
        await back.put_off(taken, owner=self.owner, delay_s=delay_s, tries=tries)
        return Later(error=error, listed=False)

    async def _route(self, bucket: str, key: str) -> BackRoute | None:
        now = time.monotonic()
        known = self._routes.get(bucket)
        if known is not None and now - known[0] < _ROUTES_S:
            route = route_for(known[1], key)
            if route is not None:
                return route
        routes = decode_routes(await self._ledger.back.routes(bucket))
        self._routes[bucket] = (now, routes)
        return route_for(routes, key)


def _waits(error: TransferError) -> bool:
    """Whether this failure says nothing about the key: it is tried for as long as it takes."""
    if isinstance(error, (BudgetExhausted, StoreUnavailable, StoreThrottled)):
        return True
    if isinstance(error, CredentialMissing):
        return False
    return isinstance(error, OriginError) and not is_refusal(error) and error.retryable
