"""The tee: one pass from the origin to everybody who reads, and to the store.

Owns one running pull from claim to commit. It belongs to the application, not to a request: clients come
and go without it noticing. Three sides can fail, each with its own kind of exception and its own
consequence, and none is ever taken for another:

* the origin (`OriginError`): readers are cut short, nothing is stored, the key goes to the queue (A12);
* the store (`StoreError`): readers get everything, the key goes to the queue (A23);
* a client (`answer.ClientLost`): never seen here (A22).
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never, cast

import structlog

from scheduler.front.http.object_headers import from_origin, origin_validators
from scheduler.front.pull.claim import Claimed, Waited, unsure
from scheduler.front.pull.fill import Failed, Fill, InStore, NotFound, Opened, PassedOn, is_for_one
from scheduler.front.pull.spool import BodyFailed
from workers.errors import (
    BudgetExhausted,
    ControlCharacter,
    DigestMismatch,
    OriginError,
    OriginNoLength,
    OriginsExhausted,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
    StoreError,
    TransferError,
    described,
)
from workers.origin.fetch.fetcher import Absent, Fetched, PassedRedirect
from workers.origin.fetch.sharing import withheld
from workers.plan import Lane, unlistable
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from scheduler.front.pull.claim import FrontClaims
    from scheduler.front.pull.spool import Body, Reader, Spool
    from scheduler.front.stats import GatewayStats
    from workers.origin.fetch.fetcher import Fetcher, FetchSession
    from workers.plan import FetchPlan
    from workers.store.client import ObjectStore
    from workers.store.model import Commit, ObjectMeta

log = structlog.get_logger()

#: What `check_md5: stream` keeps from readers until the digest is known (A13).
HELD_BACK_BYTES = 64 * 1024
#: A claim that comes longer than this after the look-up, in seconds, is followed by another look: a worker's
#: pull leaves no mark, and a gateway in front looked even earlier.
FRESH_S = 0.5
#: Seconds that a store which does not answer may delay a pull that a client waits for.
STORE_PATIENCE_S = 2.0
#: Seconds for which a claim is ours whatever happened to this process meanwhile; leases last 30.
SURE_S = 20.0
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
        spool: Spool,
        stats: GatewayStats,
        herd_wait_s: float,
        max_object_bytes: int | None,
        stored: Callable[[str, str], None],
        absent: Callable[[Fill, NotFound], None],
        give_away: Callable[[Fill, str], Awaitable[None]],
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._claims = claims
        self._spool = spool
        self._stats = stats
        self._herd_wait_s = herd_wait_s
        self._max_object_bytes = max_object_bytes
        self._stored = stored
        self._absent = absent
        self._give_away = give_away

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
                await self._give_away(fill, reason)

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
                self._stored(fill.bucket, fill.key)
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
        self._stored(fill.bucket, fill.key)
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
                    await self._give_away(fill, reason)

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
                    self._absent(fill, not_found)
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
                    failed = await self._tee(fill, answer, save=save)
                    if not isinstance(failed, OriginError) or fill.opening.done() or not failed.switch:
                        if isinstance(failed, TransferError):
                            fill.settle(Failed(error=failed))
                        return _queue_reason(failed, spooled=not fill.opening.done())
                    # spool: nothing has gone out, so the next candidate is tried (B6)
                case _:
                    assert_never(answer)

    async def _tee(self, fill: Fill, answer: Fetched, *, save: bool) -> TransferError | None:
        """Pass one answer on; None when everybody who wanted it has it whole."""
        plan = fill.plan
        meta = object_meta(
            answer.headers,
            plan,
            key=fill.key,
            url=answer.url,
            attempt=fill.attempt,
            fetched_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        reason = None if plan.store.private else withheld(answer.headers, plan)
        fill.withheld = reason is not None
        if reason is not None and save:
            save = False
            self._stats.outcome(fill.bucket, plan.rule, "skipped")
            log.info("not_stored", key=fill.key, origin=answer.origin, reason=reason)
        body = self._spool.body()
        opened = Opened(
            headers=tuple(
                from_origin(
                    answer.headers,
                    meta,
                    user_meta=plan.store.user_meta,
                    set_headers=fill.return_headers,
                    vary=fill.withheld,
                )
            ),
            length=answer.length,
            validators=origin_validators(answer.headers),
            body=body,
            withheld=reason or "",
        )
        if plan.store.check_md5 == "stream" and answer.digests_offered:
            body.hold_back_bytes = HELD_BACK_BYTES
        uploading: asyncio.Task[Commit | StoreError | None] | None = None
        if save and self._may_store(answer, plan):
            reader = body.reader()
            uploading = asyncio.create_task(
                self._upload(fill, meta, answer.length, reader), name="fill-store"
            )
        spooled = plan.store.check_md5 == "spool"
        if not spooled:
            fill.settle(opened)
        try:
            failure = await self._read_origin(fill, answer, body, uploading)
            if failure is None and spooled:
                fill.settle(opened)
            if uploading is None:
                if failure is None and save and _is_endless(answer, plan):
                    return OriginNoLength("the body ended with the connection", origin=answer.origin)
                return failure
            result = await uploading
            if failure is not None:
                return failure
            return self._committed(fill, result)
        finally:
            if not body.done:
                body.fail(OriginTruncated("the process is stopping", origin=answer.origin))
            if uploading is not None and not uploading.done():
                uploading.cancel()
                await asyncio.wait({uploading})
            body.close()

    async def _read_origin(
        self,
        fill: Fill,
        answer: Fetched,
        body: Body,
        uploading: asyncio.Task[Commit | StoreError | None] | None,
    ) -> OriginError | None:
        try:
            async with contextlib.aclosing(cast("AsyncGenerator[bytes, None]", answer.chunks())) as chunks:
                async for chunk in chunks:
                    await body.write(chunk)
                    if not fill.followers and (uploading is None or uploading.done()):
                        log.info("pull_unwanted", bucket=fill.bucket, key=fill.key, got=body.written)
                        body.fail(OriginTruncated("nobody reads any more", origin=answer.origin))
                        return None
        except OriginError as error:
            if isinstance(error, DigestMismatch) and fill.plan.store.check_md5 == "off":
                body.finish_wrong(error)  # F43: the client's answer does not wait for the comparison
            else:
                body.fail(error)
            log.info(
                "origin_body_failed",
                key=fill.key,
                origin=answer.origin,
                got=body.written,
                reason=error.reason,
                error=str(error),
            )
            return error
        body.finish()
        return None

    async def _upload(
        self, fill: Fill, meta: ObjectMeta, length: int | None, reader: Reader
    ) -> Commit | StoreError | None:
        """The store's side. None when the body failed or is wrong: then the upload was taken back."""
        try:
            refusal = unlistable(fill.key)
            if refusal is not None:
                return ControlCharacter(f"{fill.bucket}/{fill.key!r}: {refusal}")
            limit = fill.plan.store.limit_bytes(self._max_object_bytes)
            async with self._store.upload(
                fill.bucket, fill.key, meta, attempt=fill.attempt, size=length
            ) as upload:
                async for chunk in reader.chunks():
                    if limit is not None and reader.position > limit:
                        self._stats.outcome(fill.bucket, fill.plan.rule, "skipped")
                        log.info("too_large", bucket=fill.bucket, key=fill.key, limit_bytes=limit)
                        return None
                    await upload.write(chunk)
                if reader.failure is not None:
                    return None
                if await self._deleted_meanwhile(fill):
                    return None
                return await upload.commit()
        except BodyFailed:
            return None
        except StoreError as error:
            log.warning(
                "store_side_failed", bucket=fill.bucket, key=fill.key, reason=error.reason, error=str(error)
            )
            return error
        except Exception as error:
            # A fault of ours on this side is no reason to harm the clients on the other.
            log.exception("store_side_crashed", bucket=fill.bucket, key=fill.key)
            return StoreError(described(error))
        finally:
            reader.close()

    async def _deleted_meanwhile(self, fill: Fill) -> bool:
        """Whether a delete that could not know of this pull has come: it holds no claim, or did for too long.

        Raises:
            TombstonesUnknown: nobody can say, and keys of this bucket were deleted.
        """
        held_s = asyncio.get_running_loop().time() - fill.began_at
        if not fill.unclaimed and held_s < SURE_S:
            return False
        found = await self._claims.deleted_meanwhile(fill.bucket, fill.key)
        if found:
            log.info("deleted_meanwhile", bucket=fill.bucket, key=fill.key)
        return found

    def _committed(self, fill: Fill, result: Commit | StoreError | None) -> StoreError | None:
        if result is None:
            return None
        if isinstance(result, StoreError):
            self._stats.failed(fill.bucket, fill.plan.rule, result.reason)
            return result
        fill.committed = True
        self._stored(fill.bucket, fill.key)
        outcome = "stored" if result.created else "already_present"
        log.info("pull_done", key=fill.key, outcome=outcome, bytes=result.size, attempt=fill.attempt)
        self._stats.outcome(
            fill.bucket,
            fill.plan.rule,
            outcome,
            n_bytes=result.size,
            duration_s=asyncio.get_running_loop().time() - fill.looked_at,
        )
        return None

    def _may_store(self, answer: Fetched, plan: FetchPlan) -> bool:
        if _is_endless(answer, plan):
            return False
        limit = plan.store.limit_bytes(self._max_object_bytes)
        return limit is None or answer.length is None or answer.length <= limit


def _is_endless(answer: Fetched, plan: FetchPlan) -> bool:
    """A3: nobody can know whether such a body is whole; a job will say so in the list of failures."""
    return answer.framing == "close" and not plan.store.accept_close_delimited


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
