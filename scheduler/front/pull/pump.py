"""One pull of a key: claimed, fetched, and handed to whoever waits.

Owns one running pull from claim to end. It belongs to the application, not to a request: clients come and go
without it noticing. How one answer of an origin reaches readers and store is the `tee`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, assert_never

import structlog

from scheduler.front.pull.claim import Claimed, Waited, unsure
from scheduler.front.pull.fill import Failed, Fill, InStore, NotFound, PassedOn, is_for_one
from workers.errors import (
    BudgetExhausted,
    DigestMismatch,
    OriginError,
    OriginsExhausted,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
    StoreError,
    TransferError,
)
from workers.origin.fetch.fetcher import Absent, Fetched, PassedRedirect
from workers.plan import Lane

if TYPE_CHECKING:
    from scheduler.front.pull.afterwards import Afterwards
    from scheduler.front.pull.claim import FrontClaims
    from scheduler.front.pull.tee import Tee
    from workers.origin.fetch.fetcher import Fetcher, FetchSession
    from workers.store.client import ObjectStore

log = structlog.get_logger()

#: A claim that comes longer than this after the look-up, in seconds, is followed by another look. Before that
#: the claim itself tells: whoever stores a key leaves a mark for 30 s (`workers.ledger.claims.STORED_MS`).
FRESH_S = 10.0
#: Seconds that a store which does not answer may delay a pull that a client waits for.
STORE_PATIENCE_S = 2.0
#: Failures of an origin after which a later pull may well succeed (A11, A12, A13, A25).
_WORTH_QUEUEING = (OriginUnreachable, OriginTimeout, OriginTruncated, DigestMismatch, BudgetExhausted)


class Pump:
    """Runs fills. One for the process."""

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        store: ObjectStore,
        claims: FrontClaims,
        tee: Tee,
        afterwards: Afterwards,
        herd_wait_s: float,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._claims = claims
        self._tee = tee
        self._afterwards = afterwards
        self._herd_wait_s = herd_wait_s

    async def run(self, fill: Fill) -> None:
        """Do one fill; whatever happens, `fill.opening` is settled and nothing is left behind."""
        claimed = await self._claim(fill)
        if claimed is None:
            return
        mine = claimed is Claimed.MINE
        save = fill.plan.store.save and claimed is not Claimed.BUSY
        reason = "stopping"
        try:
            reason = await self._pull(fill, save=save)
        finally:
            if mine or fill.committed:
                await self._unclaim(fill)
            if reason and save and not fill.withheld:
                self._afterwards.given_away(fill, reason)

    async def run_alone(self, fill: Fill) -> None:
        """As `run`, for the one client whose request it is: nothing is claimed and nothing stored (F61)."""
        await self._pull(fill, save=False)

    # ------------------------------------------------------------ before the origin
    async def _claim(self, fill: Fill) -> Claimed | None:
        """Whether to go on, and as what; None when the fill is settled already.

        BUSY means: fetch for our own clients, but leave the storing to the other (A24).
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._herd_wait_s
        heed_stored = True
        while True:
            claimed = await self._claims.claim(fill.plan, fill.key, heed_stored=heed_stored)
            if claimed is Claimed.TOMBSTONE:
                fill.settle(NotFound(reason="tombstone"))
                return None
            if claimed is Claimed.ABSENT:
                fill.settle(NotFound())
                return None
            if claimed is Claimed.STORED:
                if await self._is_stored(fill):
                    return None
                heed_stored = False  # stored, and deleted since
                continue
            if claimed is Claimed.MINE:
                if loop.time() - fill.looked_at > FRESH_S and await self._is_stored(fill):
                    await self._claims.release(fill.bucket, fill.key)
                    return None
                return claimed
            if claimed is Claimed.UNSURE:
                fill.settle(Failed(error=unsure(fill.bucket, fill.key)))
                return None
            if claimed is Claimed.UNKNOWN:
                fill.unclaimed = True
                return claimed
            try:
                async with asyncio.timeout_at(until + STORE_PATIENCE_S):
                    waited = await self._claims.wait_for_other(
                        self._store, fill.bucket, fill.key, timeout_s=until - loop.time()
                    )
            except (StoreError, TimeoutError):
                waited = Waited.TOO_LONG
            if waited is Waited.STORED:
                self._afterwards.stored(fill.bucket, fill.key)
                fill.settle(InStore())
                return None
            if waited is Waited.TOO_LONG:
                return Claimed.BUSY
            fill.looked_at = loop.time()

    async def _unclaim(self, fill: Fill) -> None:
        if fill.committed:
            self._claims.finish(fill.bucket, fill.key)
        else:
            await self._claims.release(fill.bucket, fill.key)

    async def _is_stored(self, fill: Fill) -> bool:
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                if await self._store.head(fill.bucket, fill.key) is None:
                    return False
        except (StoreError, TimeoutError) as error:
            # The miss has happened: whoever waits gets it from the origin, stored or not (A23).
            log.warning("store_lookup_failed", bucket=fill.bucket, key=fill.key, error=str(error))
            return False
        self._afterwards.stored(fill.bucket, fill.key)
        fill.settle(InStore())
        return True

    # ------------------------------------------------------------ the pull
    async def _pull(self, fill: Fill, *, save: bool) -> str:
        """Fetch, share and store; the reason why the key should go to the queue, or empty."""
        session = self._fetcher.session(
            fill.plan, fill.item, lane=Lane.HOT, keep_error_body=fill.keep_error_body
        )
        async with session:
            return await self.pull_from(fill, session, None, save=save)

    async def run_opened(self, fill: Fill, session: FetchSession, first: Fetched) -> None:
        """As `run`, over a session that has already given `first`; the session is ours from now on (A16)."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(session)
            claimed = await self._claims.claim(fill.plan, fill.key)
            fill.unclaimed = claimed is Claimed.UNKNOWN
            save = fill.plan.store.save and claimed in {Claimed.MINE, Claimed.ABSENT, Claimed.UNKNOWN}
            reason = "stopping"
            try:
                reason = await self.pull_from(fill, session, first, save=save)
            finally:
                if claimed is Claimed.MINE or fill.committed:
                    await self._unclaim(fill)
                if reason and save and not fill.withheld:
                    self._afterwards.given_away(fill, reason)

    async def pull_from(self, fill: Fill, session: FetchSession, first: Fetched | None, *, save: bool) -> str:
        """As `_pull`, over an open session; `first` is an answer that was taken from it already (A16)."""
        while True:
            try:
                answer = first or await session.open()
            except TransferError as error:
                kept = error.answer if isinstance(error, OriginsExhausted) else None
                fill.settle(Failed(error=error, answer=kept))
                asynchronous = kept is not None and kept.status == fill.plan.async_status
                cause = error.last if isinstance(error, OriginsExhausted) else error
                return cause.reason if asynchronous or worth_queueing(error) else ""
            first = None
            match answer:
                case Absent():
                    not_found = NotFound(answer=answer.answer)
                    if is_for_one(not_found, fill.plan):  # absent for whoever asked
                        fill.settle(not_found)
                        return ""
                    self._afterwards.absent(fill, not_found)
                    fill.settle(not_found)
                    await self._claims.mark_absent(fill.plan, fill.key)
                    return ""
                case PassedRedirect():
                    fill.settle(
                        PassedOn(
                            status=answer.status, location=answer.location, headers=tuple(answer.headers)
                        )
                    )
                    return ""
                case Fetched():
                    failed = await self._tee.run(fill, answer, save=save)
                    if not isinstance(failed, OriginError) or fill.opening.done() or not failed.switch:
                        if isinstance(failed, TransferError):
                            fill.settle(Failed(error=failed))
                        return _queue_reason(failed, spooled=not fill.opening.done())
                    # spool: nothing has gone out, so the next candidate is tried (B6)
                case _:
                    assert_never(answer)


def worth_queueing(error: TransferError) -> bool:
    """Whether a failure before the first byte leaves a job behind (A11, A25)."""
    cause = error.last if isinstance(error, OriginsExhausted) else error
    return isinstance(cause, _WORTH_QUEUEING)


def _queue_reason(failed: TransferError | None, *, spooled: bool) -> str:
    if failed is None:
        return ""
    if isinstance(failed, OriginError) and spooled:
        return failed.reason if worth_queueing(failed) else ""
    return failed.reason
