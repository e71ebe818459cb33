"""The tee: one answer of an origin passed on to everybody who reads, and to the store.

Owns one pass from the head of the answer to the commit. Three sides can fail, each with its own kind of
exception and its own consequence, and none is ever taken for another:

* the origin (`OriginError`): readers are cut short, nothing is stored, the key goes to the queue (A12);
* the store (`StoreError`): readers get everything, the key goes to the queue (A23);
* a client (`answer.ClientLost`): never seen here (A22).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from scheduler.front.http.object_headers import from_origin
from scheduler.front.pull.fill import Opened
from scheduler.front.pull.spool import BodyFailed
from workers.errors import (
    ControlCharacter,
    DigestMismatch,
    OriginError,
    OriginNoLength,
    OriginTruncated,
    StoreError,
    described,
)
from workers.origin.fetch.sharing import withheld
from workers.plan import unlistable
from workers.store.metadata import object_meta

if TYPE_CHECKING:
    from scheduler.front.pull.afterwards import Afterwards
    from scheduler.front.pull.claim import FrontClaims
    from scheduler.front.pull.fill import Fill
    from scheduler.front.pull.spool import Body, Reader, Spool
    from scheduler.front.stats import GatewayStats
    from workers.errors import TransferError
    from workers.origin.fetch.fetcher import Fetched
    from workers.plan import FetchPlan
    from workers.store.client import ObjectStore
    from workers.store.model import Commit, ObjectMeta

log = structlog.get_logger()

#: What `check_md5: stream` keeps from readers until the digest is known (A13).
HELD_BACK_BYTES = 64 * 1024
#: An object up to this length is handed to the store when all of it is here, in one exchange that lasts no
#: longer: a task beside the reading of it would only wait for its end.
AT_ONCE_BYTES = 64 * 1024
#: Seconds for which a claim is ours whatever happened to this process meanwhile; leases last 30.
SURE_S = 20.0


class Tee:
    """Passes answers on. One for the process."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        claims: FrontClaims,
        spool: Spool,
        stats: GatewayStats,
        afterwards: Afterwards,
        max_object_bytes: int | None,
    ) -> None:
        self._store = store
        self._claims = claims
        self._spool = spool
        self._stats = stats
        self._afterwards = afterwards
        self._max_object_bytes = max_object_bytes
        #: For the line of each object: `log` makes a logger for every line, a quarter of what one costs.
        self._log = log.bind()

    async def run(self, fill: Fill, answer: Fetched, *, save: bool) -> TransferError | None:
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
            said=answer.headers,
            body=body,
            withheld=reason or "",
        )
        if plan.store.check_md5 == "stream" and answer.digests_offered:
            body.hold_back_bytes = HELD_BACK_BYTES
        reader = body.reader() if save and self._may_store(answer, plan) else None
        uploading: asyncio.Task[Commit | StoreError | None] | None = None
        if reader is not None and (answer.length is None or answer.length > AT_ONCE_BYTES):
            uploading = asyncio.create_task(
                self._upload(fill, meta, answer.length, reader), name="fill-store"
            )
        spooled = plan.store.check_md5 == "spool"
        if not spooled:
            fill.settle(opened)
        try:
            failure = await self._read_origin(fill, answer, body, stored=reader is not None, by=uploading)
            if failure is None and spooled:
                fill.settle(opened)
            if reader is None:
                if failure is None and save and _is_endless(answer, plan):
                    return OriginNoLength("the body ended with the connection", origin=answer.origin)
                return failure
            if uploading is not None:
                result = await uploading
            elif failure is None:
                await asyncio.sleep(0)  # who waits for the bytes gets them before the store does
                result = await self._upload(fill, meta, answer.length, reader)
            if failure is not None:
                return failure
            return self._committed(fill, result)
        finally:
            if not body.done:
                body.fail(OriginTruncated("the process is stopping", origin=answer.origin))
            if uploading is not None and not uploading.done():
                uploading.cancel()
                await asyncio.wait({uploading})
            if reader is not None:
                reader.close()
            body.close()

    async def _read_origin(
        self,
        fill: Fill,
        answer: Fetched,
        body: Body,
        *,
        stored: bool,
        by: asyncio.Task[Commit | StoreError | None] | None,
    ) -> OriginError | None:
        """Read it to its end; `stored`: the store gets it too, by the task `by` while it comes, or later."""
        try:
            while chunk := await answer.read_some():
                await body.write(chunk)
                if not fill.followers and (by.done() if by is not None else not stored):
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
                while chunk := await reader.read_some():
                    if limit is not None and reader.position > limit:
                        self._stats.outcome(fill.bucket, fill.plan.rule, "skipped")
                        log.info("too_large", bucket=fill.bucket, key=fill.key, limit_bytes=limit)
                        return None
                    await upload.write(chunk)
                if reader.failure is not None:
                    return None
                if await self._deleted_meanwhile(fill):
                    return None
                try:
                    return await upload.commit()
                finally:
                    if upload.at_large:
                        await self._claims.note_late(fill.bucket, fill.key)
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
        self._afterwards.stored(fill.bucket, fill.key)
        outcome = "stored" if result.created else "already_present"
        self._log.info("pull_done", key=fill.key, outcome=outcome, bytes=result.size, attempt=fill.attempt)
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
